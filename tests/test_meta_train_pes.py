"""PES estimates the gradient it says: its own smoothed one, also truncated.

The inner problem is a single parameter that moves by a function of theta
alone, so the loss of an episode and its smoothed gradient have a closed form.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.estimators.pes import pes
from meta_train.unroll import Run, UnrollResult

SIGMA = 0.3
UNROLLS = 3


class Episode(NamedTuple):
  step: jax.Array
  length: jax.Array


class Walk:
  """x <- x + theta_0 (1 + x / 2) + theta_1; the loss of an unroll is x**2.

  One unroll is one step. Truncation hides from unroll n what theta did in the
  unrolls before it.
  """

  truncation = 1

  def __init__(self, diverge=False):
    self._diverge = diverge

  def start(self, key):
    del key
    episode = Episode(jnp.zeros([], jnp.int32), jnp.asarray(UNROLLS))
    return episode, Run(jnp.ones([]), None, (), jnp.zeros([], bool))

  def stagger(self, key, episode):
    del key
    return episode

  def advance(self, theta, episode, run, key):
    del episode, key
    x = run.params + theta[0] * (1 + run.params / 2) + theta[1]
    return run._replace(params=x), UnrollResult(x**2, run.diverged)


def smoothed_gradient(theta):
  """Gradient of the mean loss with a fresh perturbation in every unroll.

  By the mean and variance of x, which is linear in each perturbation:
  with a = 1 + (theta_0 + e_0) / 2 and b = theta_0 + theta_1 + e_0 + e_1,
  x' = a x + b.
  """

  def loss(theta):
    a, b = 1 + theta[0] / 2, theta[0] + theta[1]
    var_a, var_b, cov = SIGMA**2 / 4, 2 * SIGMA**2, SIGMA**2 / 2
    mean, second, total = 1.0, 1.0, 0.0
    for _ in range(UNROLLS):
      second = (a**2 + var_a) * second + 2 * (a * b + cov) * mean + b**2 + var_b
      mean = a * mean + b
      total += second
    return total / UNROLLS

  return jax.grad(loss)(theta)


def estimates(theta, samples, unrolls):
  estimator = pes(Walk(), 2, SIGMA)

  @jax.jit
  @jax.vmap
  def run(key):
    def step(state, key):
      state, estimate = estimator.estimate(theta, state, key)
      return state, (estimate.gradient, state)

    keys = jax.random.split(key, unrolls)
    return jax.lax.scan(step, estimator.init(key), keys)[1]

  return run(jax.random.split(jax.random.key(0), samples))


def test_pes_is_unbiased_where_truncation_is_not():
  theta = jnp.array([-0.2, 0.1])
  gradient, _ = estimates(theta, 400_000, UNROLLS)
  # The mean over an episode's unrolls estimates the mean loss's gradient.
  per_episode = np.asarray(gradient, np.float64).mean(axis=1)
  mean = per_episode.mean(axis=0)
  error = per_episode.std(axis=0) / np.sqrt(len(per_episode))
  want = np.asarray(smoothed_gradient(theta))
  assert np.all(np.abs(mean - want) < 4 * error), (mean, want, error)
  # The test has teeth: a truncated gradient is many errors away.
  x = 1.0
  truncated = np.zeros(2)
  for _ in range(UNROLLS):
    new = x + float(theta[0]) * (1 + x / 2) + float(theta[1])
    truncated += 2 * new * np.array([1 + x / 2, 1.0]) / UNROLLS
    x = new
  assert np.any(np.abs(truncated - want) > 20 * error)


def test_both_halves_and_the_sum_reset_together():
  _, states = estimates(jnp.zeros(2), 4, 2 * UNROLLS)
  for n in range(2 * UNROLLS):
    xi = np.asarray(states.perturbation[:, n])
    params = np.asarray(states.runs.params[:, n])
    if (n + 1) % UNROLLS == 0:
      assert np.all(xi == 0) and np.all(params == 1)
    else:
      assert np.all(xi != 0) and np.all(params[:, 0] != params[:, 1])
  assert np.all(np.asarray(states.episode.step)[:, -1] == 0)
