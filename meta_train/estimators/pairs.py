"""Antithetic pairs: what all evolution-strategies estimators share.

A pair trains one copy with theta + eps and one with theta - eps, on the same
task, initial parameters and batches. With L+ and L- their losses and c the
perturbation that is credited with them,

    g = c (L+ - L-) / (2 sigma**2),

averaged over `num_pairs` independent pairs. Sigma may be one number for each
meta-parameter (see `meta_train.engine.group_scales`); those for which it is
zero are not perturbed and get no gradient. Copies lie along one axis, first all
the plus halves and then all the minus halves, so that the unroll is compiled
once and run for all.

What tells the online estimators apart is which perturbation an unroll gets
and which is credited with its loss; each is a `Perturb` function handed to
`online`, which does the rest: stepping, resets, bookkeeping.

References: Salimans, Ho, Chen, Sidor, Sutskever, "Evolution Strategies as a
Scalable Alternative to Reinforcement Learning" (2017).

Main names: `online`, `Perturb`, `PairState`, `draw`, `advance`, `credit`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from meta_train.engine.unroll import Episode, Run, Theta, Unroller, UnrollResult
from meta_train.estimators.base import Estimate, Estimator, reset_where_done
from meta_train.estimators.failing import FailingStates
from meta_train.estimators.shaping import SHAPINGS, Sigma

Vectors = Float[Array, "pairs theta"]
Memory = tuple[Vectors, ...]

#: (memory, drawn, step) -> (epsilon, credited, memory). `memory` is what is
#: kept from unroll to unroll, zero at the start of an episode; `drawn` is a
#: fresh perturbation; `step` counts the finished inner steps of the episode;
#: `epsilon` perturbs this unroll, and `credited` is credited with its loss.
Perturb = Callable[
  [Memory, Vectors, Int[Array, ""]], tuple[Vectors, Vectors, Memory]
]


class PairState(NamedTuple):
  """State of one task.

  Attributes:
    episode: what all copies share.
    runs: the copies, stacked along the first axis.
    memory: what the estimator keeps of the episode's perturbations.
    failing: kept states from which training went wrong.
  """

  episode: Episode
  runs: Run
  memory: Memory
  failing: Any


def draw(
  key: PRNGKeyArray, sigma: Sigma, num_pairs: int, num_theta: int
) -> Vectors:
  """Returns fresh perturbations, one of N(0, sigma**2 I) for each pair."""
  return sigma * jax.random.normal(key, (num_pairs, num_theta))


def copy(run: Run, num_pairs: int) -> Run:
  """Returns a run copied for both halves of all pairs."""
  return jax.tree.map(lambda x: jnp.stack([x] * (2 * num_pairs)), run)


def advance(
  unroller: Unroller,
  theta: Theta,
  epsilon: Vectors,
  episode: Episode,
  runs: Run,
  key: PRNGKeyArray,
  batches: Any = None,
) -> tuple[Run, UnrollResult]:
  """Trains all copies for one unroll, on the same batches."""
  thetas = jnp.concatenate([theta + epsilon, theta - epsilon])
  return jax.vmap(unroller.advance, (0, None, 0, None, None))(
    thetas, episode, runs, key, batches
  )


def credit(
  credited: Vectors,
  losses: Float[Array, "copies"],
  sigma: Sigma,
  shaping: str = "none",
) -> Theta:
  """Returns the mean over pairs of c (L+ - L-) / (2 sigma**2).

  Args:
    credited: c of each pair; it counts as zero where sigma is.
    losses: of all plus halves, then of all minus halves.
    sigma: standard deviation of the perturbations.
    shaping: name in `SHAPINGS`, of what stands for the differences.
  """
  plus, minus = jnp.split(losses, 2)
  differences = SHAPINGS[shaping](plus - minus, sigma)
  some = jnp.asarray(sigma) > 0
  credited = jnp.where(some, credited, 0.0)
  square = jnp.where(some, jnp.square(sigma), 1.0)
  return jnp.mean(credited * differences[:, None] / (2 * square), axis=0)


def online(
  unroller: Unroller,
  num_theta: int,
  sigma: Sigma,
  *,
  num_pairs: int,
  shaping: str,
  failing: FailingStates,
  num_kept: int,
  perturb: Perturb,
) -> Estimator:
  """Makes an estimator that estimates after every unroll.

  Args:
    unroller: trains one copy for one unroll.
    num_theta: number of meta-parameters.
    sigma: standard deviation of the perturbations.
    num_pairs: antithetic pairs; all of them share task and batches.
    shaping: what is credited, see `shaping`.
    failing: buffer of states in which episodes may begin, see `failing`.
    num_kept: vectors in the memory of `perturb`.
    perturb: which perturbation is used, and which is credited.
  """

  def init(key, outer_step=0):
    start_key, stagger_key = jax.random.split(key)
    episode, run = unroller.start(start_key, outer_step)
    episode = unroller.stagger(stagger_key, episode)
    memory = jnp.zeros((num_pairs, num_theta), jnp.float32)
    kept = failing.init(episode, run)
    runs = copy(run, num_pairs)
    return PairState(episode, runs, (memory,) * num_kept, kept)

  def estimate(
    theta, state: PairState, key, outer_step=0, batches=None, free=1.0
  ):
    noise_key, unroll_key, reset_key, begin_key = jax.random.split(key, 4)
    scale = sigma * free
    drawn = draw(noise_key, scale, num_pairs, num_theta)
    epsilon, credited, memory = perturb(state.memory, drawn, state.episode.step)
    runs, result = advance(
      unroller, theta, epsilon, state.episode, state.runs, unroll_key, batches
    )
    kept = failing.keep(state.failing, state.episode, state.runs, result.failed)
    step = state.episode.step + unroller.truncation
    episode, runs, done = reset_where_done(
      unroller,
      reset_key,
      state.episode._replace(step=step),
      runs,
      outer_step,
      begin=lambda *fresh: failing.begin(kept, begin_key, *fresh),
    )
    memory = tuple(jnp.where(done, 0.0, x) for x in memory)
    estimate = Estimate(
      gradient=credit(credited, result.loss, scale, shaping),
      loss=jnp.mean(result.reported),
      diverged=jnp.mean(result.diverged * 1.0),
    )
    return PairState(episode, runs, memory, kept), estimate

  steps = unroller.truncation
  return Estimator(init, estimate, 2 * num_pairs, steps, steps)
