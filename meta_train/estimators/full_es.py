"""Full evolution strategies: one estimate from one whole episode.

Each call draws a task, a horizon and eps ~ N(0, sigma**2 I), trains an
antithetic pair from initial parameters to the horizon, and returns

    g = eps (L+ - L-) / (2 sigma**2),    L = the mean loss of the N unrolls,

an unbiased estimate of the gradient of the episode's loss, smoothed by sigma
jointly over the episode: the reference that the online estimators are held
against. Every step of the episode is at the same theta.

Cost: a call runs unrolls until the longest episode of the tasks that share a
device is over; shorter ones wait, unchanged. With many tasks per device that
is nearly max_horizon inner steps in each outer step, against `truncation` of
an online estimator. An episode has one vote here whatever its length, where
online estimators give it one for each of its unrolls.

Reference: Metz, Maheswaranathan, Nixon, Freeman, Sohl-Dickstein,
"Understanding and Correcting Pathologies in the Training of Learned
Optimizers" (2019), for evolution strategies on learned optimizers.

Main names: `full_es`.
"""

import jax
import jax.numpy as jnp

from meta_train.engine.unroll import Unroller
from meta_train.estimators import pairs
from meta_train.estimators.base import (
  Estimate,
  Estimator,
  NoState,
  longest,
  mean_length,
  no_state,
  unroll_of,
)


def full_es(
  unroller: Unroller,
  num_theta: int,
  sigma: pairs.Sigma,
  *,
  num_pairs: int = 1,
  shaping: str = "none",
) -> Estimator:
  """Makes the estimator.

  Args:
    unroller: trains one copy for one unroll.
    num_theta: number of meta-parameters.
    sigma: standard deviation of the perturbations.
    num_pairs: antithetic pairs per task.
    shaping: name in `SHAPINGS`: what is credited.
  """

  def estimate(
    theta, state: NoState, key, outer_step=0, batches=None, free=1.0
  ):
    start_key, noise_key, unroll_key = jax.random.split(key, 3)
    scale = sigma * free
    epsilon = pairs.draw(noise_key, scale, num_pairs, num_theta)
    episode, run = unroller.start(start_key, outer_step)

    def goes_on(carry):
      episode, *_ = carry
      return episode.step < episode.length

    def unroll(carry):
      episode, runs, total, reported, _ = carry
      key = jax.random.fold_in(unroll_key, episode.step)
      now = unroll_of(batches, unroller, episode.step)
      runs, result = pairs.advance(
        unroller, theta, epsilon, episode, runs, key, now
      )
      episode = episode._replace(step=episode.step + unroller.truncation)
      total, reported = total + result.loss, reported + result.reported
      return episode, runs, total, reported, result.diverged

    none = jnp.zeros(2 * num_pairs, jnp.float32)
    runs = pairs.copy(run, num_pairs)
    start = (episode, runs, none, none, none.astype(bool))
    episode, _, total, reported, diverged = jax.lax.while_loop(
      goes_on, unroll, start
    )
    each = unroller.truncation / episode.length
    estimate = Estimate(
      gradient=pairs.credit(epsilon, each * total, scale, shaping),
      loss=jnp.mean(each * reported),
      diverged=jnp.mean(diverged * 1.0),
    )
    return state, estimate

  steps = mean_length(unroller)
  return Estimator(no_state, estimate, 2 * num_pairs, steps, longest(unroller))
