"""Inner problems whose smoothed meta-gradients are known, as mock unrollers.

A problem is a recurrence x <- move(x, theta, z) from a fixed start, one inner
step after the other, with a loss after each; z is the step's random data.
`smoothed` gives the gradient of an episode's mean loss by quadrature, weighted
by step as the meta-objective says.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from meta_train.engine.objectives import OBJECTIVES
from meta_train.engine.unroll import Run, UnrollResult


class Episode(NamedTuple):
  step: jax.Array
  length: jax.Array
  supervision: tuple = ()


class Problem:
  """An unroller of a recurrence; subclasses say `start_x`, `move`, `loss`."""

  num_theta = 1
  start_x = np.zeros(())

  def __init__(self, truncation=1, length=3, shortest=None, objective="mean"):
    self.truncation = truncation
    self.max_horizon = length
    self.min_horizon = shortest or length
    self.weight = OBJECTIVES[objective].weight or (lambda *_: jnp.ones(()))

  def start(self, key, outer_step=0):
    del outer_step
    unrolls = jax.random.randint(
      key,
      (),
      self.min_horizon // self.truncation,
      self.max_horizon // self.truncation + 1,
    )
    episode = Episode(jnp.zeros([], jnp.int32), unrolls * self.truncation)
    x = jnp.asarray(self.start_x, jnp.float32)
    return episode, Run(x, None, (), jnp.zeros([], bool))

  def stagger(self, key, episode):
    del key
    return episode

  def advance(
    self, theta, episode, run, key, batches=None, *, differentiated=False
  ):
    del differentiated

    def step(x, key):
      z = jax.random.normal(key, (self.num_theta,))
      x = self.move(x, theta, z)
      return x, self.loss(x, theta, z)

    keys = jax.random.split(key, self.truncation)
    x, losses = jax.lax.scan(step, run.params, keys)
    steps = episode.step + jnp.arange(self.truncation)
    losses = losses * self.weight(steps, episode.length)
    loss, failed = losses.mean(), jnp.zeros([], bool)
    result = UnrollResult(loss, loss, run.diverged, failed)
    return run._replace(params=x), result

  def mean_loss(self, thetas, truncated=False):
    """Mean loss of the longest episode, theta given for each inner step."""
    x, total = jnp.asarray(self.start_x, jnp.float32), 0.0
    length = jnp.asarray(len(thetas))
    for n, theta in enumerate(thetas):
      if truncated and n % self.truncation == 0:
        x = jax.lax.stop_gradient(x)
      x = self.move(x, theta, None)
      total += self.weight(jnp.asarray(n), length) * self.loss(x, theta, None)
    return total / len(thetas)

  def gradient(self, theta, truncated=False):
    """Gradient without smoothing."""
    length = self.max_horizon

    def loss(theta):
      return self.mean_loss([theta] * length, truncated)

    return np.asarray(jax.grad(loss)(jnp.asarray(theta)))

  def smoothed(self, theta, sigma, period, truncated=False):
    """Gradient smoothed jointly in each period, independently between them.

    Gauss-Hermite quadrature with four nodes for each independent normal
    number: exact for polynomials of degree 7 in each.

    Args:
      theta: where.
      sigma: standard deviation of the perturbations, one or for each.
      period: inner steps that share a perturbation.
      truncated: whether the state at the start of each unroll counts as
        constant, wherever perturbations have brought it.
    """
    groups = [n // period for n in range(self.max_horizon)]
    size = (groups[-1] + 1) * self.num_theta
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    grid = np.array(list(itertools.product(nodes, repeat=size)))
    weight = np.array(list(itertools.product(weights, repeat=size)))
    weight = weight.prod(axis=1) / np.sqrt(2 * np.pi) ** size
    noise = sigma * grid.reshape(len(grid), -1, self.num_theta)
    noise = jnp.asarray(noise[:, np.array(groups)], jnp.float32)

    def loss(theta):
      losses = jax.vmap(lambda e: self.mean_loss(list(theta + e), truncated))
      return jnp.asarray(weight, jnp.float32) @ losses(noise)

    return np.asarray(jax.jit(jax.grad(loss))(jnp.asarray(theta)))


class Walk(Problem):
  """A learned rate and a learned offset: curved in theta, of degree 6.

  x <- x + theta_0 (1 + x / 2) + theta_1, from 1; the loss is x**2.
  """

  num_theta = 2
  start_x = np.ones(())

  def move(self, x, theta, z):
    return x + theta[0] * (1 + x / 2) + theta[1]

  def loss(self, x, theta, z):
    return x**2


class Line(Problem):
  """x <- x + theta from 1, loss x**2: quadratic in all perturbations."""

  start_x = np.ones(())

  def move(self, x, theta, z):
    return x + theta[0]

  def loss(self, x, theta, z):
    return x**2


class Influence(Problem):
  """Influence balancing: what helps at once harms in the long run.

  s <- A s + theta b with A of 1/2 on the diagonal and above it; b is 1 for
  the first 2 of 6 coordinates and -1 for the rest; loss (s_0 - 1)**2 / 2. At
  once theta moves s_0 up; in the long run, by 2 sum(b) = -4, down. The
  loss is quadratic in theta, so smoothing does
  not change the gradient. (Tallec and Ollivier, "Unbiased Online Recurrent
  Optimization", 2017.)
  """

  start_x = np.zeros(6)
  matrix = 0.5 * np.eye(6) + 0.5 * np.eye(6, k=1)
  sign = np.array([1.0, 1, -1, -1, -1, -1])

  def move(self, x, theta, z):
    return jnp.asarray(self.matrix, x.dtype) @ x + theta[0] * self.sign

  def loss(self, x, theta, z):
    return jnp.square(x[0] - 1) / 2


class Uncorrelated(Problem):
  """Loss z theta with a fresh z in each step: no memory, mean gradient 0.

  The gradients of different unrolls are independent. With T steps in N
  unrolls, d meta-parameters and noise kept for M equal parts of the episode,
  the expected square norm of the mean of the N estimates is

      d (d + 2) / T + d**2 (M - 1) / (2 T).
  """

  num_theta = 3

  def move(self, x, theta, z):
    return x

  def loss(self, x, theta, z):
    return z @ theta


class Slope(Problem):
  """The loss is linear in theta: `scale` times `slope @ theta`, no state."""

  num_theta = 3
  slope = np.array([1.0, -2.0, 0.5])

  def __init__(self, scale=1.0):
    super().__init__(length=1)
    self.scale = scale

  def move(self, x, theta, z):
    return x

  def loss(self, x, theta, z):
    return self.scale * (self.slope @ theta)


def estimates(estimator, theta, *, samples, calls, seed=0):
  """Returns gradients [samples, calls, theta] and the states in between."""

  @jax.jit
  @jax.vmap
  def run(key):
    init_key, key = jax.random.split(key)

    def step(state, key):
      state, estimate = estimator.estimate(theta, state, key)
      return state, (estimate, state)

    keys = jax.random.split(key, calls)
    return jax.lax.scan(step, estimator.init(init_key), keys)[1]

  return run(jax.random.split(jax.random.key(seed), samples))
