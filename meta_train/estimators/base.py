"""What a gradient estimator is.

An estimator turns unrolls of one task into an estimate of the gradient of
its meta-loss with respect to the flat meta-parameters, and keeps whatever
state it needs between unrolls. It is written for one task: the outer loop
adds the axis of tasks by `vmap`, averages, and shards.

Main names: `Estimator`, `Estimate`.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from meta_train.engine import horizons
from meta_train.engine.unroll import Episode, Run, Unroller


class Estimate(NamedTuple):
  """What one outer step learns from one task.

  Attributes:
    gradient: estimate of the gradient of the mean loss of an episode.
    loss: meta-objective in the unroll or, where a call is a whole episode, in
      the episode, averaged over its perturbed copies; without what
      supervision adds.
    diverged: share of the copies that have diverged.
    dropped: 1 where the gradient was not finite and counts as zero, else 0.
  """

  gradient: Float[Array, "theta"]
  loss: Float[Array, ""]
  diverged: Float[Array, ""]
  dropped: Float[Array, ""] | float = 0.0


class Estimator(NamedTuple):
  """A gradient estimator of one task, as pure functions.

  Attributes:
    init: (key, outer step) -> state, at staggered starts.
    estimate: (theta, state, key, outer_step, batches, free) -> (state,
      `Estimate`); the outer step, 0 by default, is where schedules of the
      unroller stand; `batches` are those of `fed_steps` inner steps, or
      `None`, the default, for a task that draws its own; `free` is 0 for
      meta-parameters that are not to be perturbed and 1, the default, for the
      others.
    copies: perturbed copies of the inner run that each call trains.
    steps: inner steps by which a call trains each copy; where a call is a
      whole episode, their expectation, rounded, once a curriculum is over.
    fed_steps: inner steps that a call may take, for which it needs batches
      where the task doesn't draw its own; all copies share them.
  """

  init: Callable[..., Any]
  estimate: Callable[..., tuple[Any, Estimate]]
  copies: int
  steps: int
  fed_steps: int


class NoState(NamedTuple):
  """State of an estimator whose every call is a whole episode."""


def no_state(
  key: PRNGKeyArray, outer_step: Int[Array, ""] | int = 0
) -> NoState:
  """Returns the empty state; `init` of such an estimator."""
  del key, outer_step
  return NoState()


def reset_where_done(
  unroller: Unroller,
  key: PRNGKeyArray,
  episode: Episode,
  runs: Run,
  outer_step: Int[Array, ""] | int = 0,
  *,
  begin: Callable[[Episode, Run], tuple[Episode, Run]],
) -> tuple[Episode, Run, Bool[Array, ""]]:
  """Starts a new episode if this one is over; all copies together.

  Args:
    unroller: the unroller.
    key: source of the new task and its initial parameters.
    episode: with `step` already advanced.
    runs: one run, or copies stacked along the first axis.
    outer_step: where schedules of the unroller stand.
    begin: (episode, run) -> (episode, run), what begins where a fresh one
      would.

  Returns:
    (episode, runs, done).
  """
  done = episode.step >= episode.length
  new_episode, new_run = begin(*unroller.start(key, outer_step))
  episode = jax.tree.map(
    lambda new, old: jnp.where(done, new, old), new_episode, episode
  )
  # A new run has no axis of copies: it is broadcast to all of them.
  runs = jax.tree.map(lambda new, old: jnp.where(done, new, old), new_run, runs)
  return episode, runs, done


def finite_or_zero(
  gradient: Float[Array, "theta"], free: Float[Array, "theta"] | float = 1.0
) -> tuple[Float[Array, "theta"], Float[Array, ""]]:
  """Replaces a backpropagated gradient whose norm isn't finite by zeros.

  Returns the gradient, and 1 if it was replaced. Where `free` is zero a
  meta-parameter is frozen, and its derivative left out.

  Once a run has diverged its loss is constant, and the zeros are exact; in
  the call in which it diverges, they leave out the steps before.
  """
  gradient = jnp.where(free == 0.0, 0.0, gradient)
  square = jnp.sum(jnp.square(gradient))
  finite = jnp.isfinite(square)
  return jnp.where(finite, gradient, 0.0), 1.0 - finite


def longest(unroller: Unroller) -> int:
  """Returns the inner steps of the longest episode, in whole unrolls."""
  return _unrolls(unroller)[1] * unroller.truncation


def unroll_of(batches: Any, unroller: Unroller, step: Int[Array, ""]) -> Any:
  """Returns the batches of the unroll that begins at `step` of an episode."""
  return jax.tree.map(
    lambda x: jax.lax.dynamic_slice_in_dim(x, step, unroller.truncation),
    batches,
  )


def mean_length(unroller: Unroller) -> int:
  """Returns the expected length of an episode, in inner steps."""
  low, high = math.log(unroller.min_horizon), math.log(unroller.max_horizon)
  drawn = np.exp(low + (high - low) * (np.arange(4096) + 0.5) / 4096)
  unrolls = np.clip(np.round(drawn / unroller.truncation), *_unrolls(unroller))
  return round(float(unrolls.mean()) * unroller.truncation)


def _unrolls(unroller: Unroller) -> tuple[int, int]:
  return horizons.unrolls(
    truncation=unroller.truncation,
    low=unroller.min_horizon,
    high=unroller.max_horizon,
  )
