"""What a gradient estimator is.

An estimator turns unrolls of one task into an estimate of the gradient of
its meta-loss with respect to the flat meta-parameters, and keeps whatever
state it needs between unrolls. It is written for one task: the outer loop
adds the axis of tasks by `vmap`, averages, and shards.

Main names: `Estimator`, `Estimate`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from meta_train.unroll import Episode, Run, Unroller


class Estimate(NamedTuple):
  """What one outer step learns from one task.

  Attributes:
    gradient: estimate of the gradient of the mean loss of an episode.
    loss: mean loss of the unroll, averaged over its perturbed copies.
    diverged: share of the copies that have diverged.
  """

  gradient: Float[Array, "theta"]
  loss: Float[Array, ""]
  diverged: Float[Array, ""]


class Estimator(NamedTuple):
  """A gradient estimator of one task, as pure functions.

  Attributes:
    init: key -> state, at staggered starts.
    estimate: (theta, state, key) -> (state, `Estimate`).
    copies: perturbed copies of the inner run that each call trains.
  """

  init: Callable[[PRNGKeyArray], Any]
  estimate: Callable[[Float[Array, "theta"], Any, PRNGKeyArray], Any]
  copies: int


def reset_where_done(
  unroller: Unroller, key: PRNGKeyArray, episode: Episode, runs: Run
) -> tuple[Episode, Run, Bool[Array, ""]]:
  """Starts a new episode if this one is over; all copies together.

  Args:
    unroller: the unroller.
    key: source of the new task and its initial parameters.
    episode: with `step` already advanced.
    runs: the copies, stacked along the first axis.

  Returns:
    (episode, runs, done).
  """
  done = episode.step >= episode.length
  new_episode, new_run = unroller.start(key)
  episode = jax.tree.map(
    lambda new, old: jnp.where(done, new, old), new_episode, episode
  )
  runs = jax.tree.map(
    lambda new, old: jnp.where(done, new[None], old), new_run, runs
  )
  return episode, runs, done
