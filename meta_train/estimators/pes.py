"""Persistent evolution strategies: unbiased estimates from short unrolls.

An antithetic pair trains with theta + eps and theta - eps, with a fresh
eps ~ N(0, sigma**2 I) for each unroll, and its runs go on from one unroll to
the next. With xi the sum of all eps since the episode began and L+, L- the
losses of the unroll,

    g = xi (L+ - L-) / (2 sigma**2)

is an unbiased estimate of the unroll's part of the gradient of the episode's
loss, smoothed by sigma independently in each unroll: xi credits the loss to
all the perturbations that led to it, where plain truncated ES credits it to
the last one alone. Its variance grows with the number of unrolls.

Reference: Vicol, Metz, Sohl-Dickstein, "Unbiased Gradient Estimation in
Unrolled Computation Graphs with Persistent Evolution Strategies" (2021).

Main names: `pes`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from meta_train.estimators.base import Estimate, Estimator, reset_where_done
from meta_train.unroll import Episode, Run, Unroller


class PESState(NamedTuple):
  """State of one task.

  Attributes:
    episode: what the pair shares.
    runs: both halves, stacked along the first axis.
    perturbation: xi, the sum of the perturbations of this episode.
  """

  episode: Episode
  runs: Run
  perturbation: Float[Array, "theta"]


def pes(unroller: Unroller, num_theta: int, sigma: float) -> Estimator:
  """Makes the estimator.

  Args:
    unroller: trains one copy for one unroll.
    num_theta: number of meta-parameters.
    sigma: standard deviation of the perturbations.
  """

  def init(key):
    start_key, stagger_key = jax.random.split(key)
    episode, run = unroller.start(start_key)
    episode = unroller.stagger(stagger_key, episode)
    runs = jax.tree.map(lambda x: jnp.stack([x, x]), run)
    return PESState(episode, runs, jnp.zeros(num_theta, jnp.float32))

  def estimate(theta, state: PESState, key):
    noise_key, unroll_key, reset_key = jax.random.split(key, 3)
    epsilon = sigma * jax.random.normal(noise_key, (num_theta,))
    total = state.perturbation + epsilon
    thetas = jnp.stack([theta + epsilon, theta - epsilon])
    runs, result = jax.vmap(unroller.advance, (0, None, 0, None))(
      thetas, state.episode, state.runs, unroll_key
    )
    gradient = total * (result.loss[0] - result.loss[1]) / (2 * sigma**2)
    step = state.episode.step + unroller.truncation
    episode, runs, done = reset_where_done(
      unroller, reset_key, state.episode._replace(step=step), runs
    )
    total = jnp.where(done, 0.0, total)
    estimate = Estimate(
      gradient, jnp.mean(result.loss), jnp.mean(result.diverged * 1.0)
    )
    return PESState(episode, runs, total), estimate

  return Estimator(init, estimate, copies=2)
