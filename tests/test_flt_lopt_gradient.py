"""Meta-gradients through long runs are finite, for every variant.

The optimizer trains a small network for 200 steps, in the flat layout that
meta-training uses, and its meta-parameters are differentiated through all
steps, with what is carried cut loose every 20 steps, and not at all.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optimizer_variants as variants
import pytest
from jax.flatten_util import ravel_pytree
from optimizer_variants import few_variants

from flt_lopt import flat
from flt_lopt.layout import FlatLayout, TensorInfo

STEPS = 200
SHAPES = [(5,), (3, 5), (2,), (5, 2), (4,)]


def loss(leaves, batch, use):
  """Returns the error of a network; its last tensor matters as `use` says."""
  b1, w1, b2, w2, extra = leaves
  x, y = batch
  hidden = jax.nn.relu(x @ w1 + b1)  # Some units die: zero gradients.
  error = jnp.mean((hidden @ w2 + b2 - y) ** 2)
  return error + use * jnp.sum(jnp.square(extra))


@functools.cache
def meta_gradient(name):
  """Returns jitted (theta, window, use) -> meta-gradient of the mean loss."""
  config = variants.config(name)
  layout = FlatLayout([TensorInfo(s) for s in SHAPES])
  rng = np.random.default_rng(0)
  start = layout.flatten(
    [jnp.asarray(0.5 * rng.normal(size=s), jnp.float32) for s in SHAPES]
  )
  x = rng.normal(size=(STEPS, 8, 3)).astype(np.float32)
  y = np.sin(x[..., :2]) + x[..., 1:]

  def mean_loss(theta, window, use):
    def step(carry, inputs):
      count, batch = inputs
      cut = count % window == 0
      carry = jax.tree.map(
        lambda x: jnp.where(cut, jax.lax.stop_gradient(x), x), carry
      )
      params, state = carry
      value, gradient = jax.value_and_grad(
        lambda p: loss(layout.unflatten(p), batch, use)
      )(params)
      updates, state = flat.update(
        config,
        theta,
        layout,
        gradient,
        state,
        params,
        num_steps=jnp.float32(STEPS),
      )
      return (params + updates, state), value

    carry = start, flat.init(config, layout)
    inputs = jnp.arange(STEPS), (x, y)
    return jnp.mean(jax.lax.scan(step, carry, inputs)[1])

  return jax.jit(jax.value_and_grad(mean_loss))


def check(theta, gradient):
  flat_gradient, _ = ravel_pytree(gradient)
  assert jax.tree.structure(gradient) == jax.tree.structure(theta)
  assert np.all(np.isfinite(flat_gradient)) and np.any(flat_gradient != 0)


@few_variants
@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("window", [20, 10**6])
def test_meta_gradient_is_finite_through_200_steps(name, noise, window):
  theta = variants.theta(name, noise=noise)
  value, gradient = meta_gradient(name)(theta, window, 0.01)
  assert np.isfinite(value)
  check(theta, gradient)


@few_variants
@pytest.mark.parametrize("use", [0.0, 1e-30, 1e-20, 1e-10])
def test_meta_gradient_is_finite_where_a_tensor_hardly_matters(name, use):
  theta = variants.theta(name)
  value, gradient = meta_gradient(name)(theta, 20, use)
  assert np.isfinite(value)
  check(theta, gradient)


def test_the_meta_gradient_is_the_slope_of_the_loss():
  theta = variants.theta(variants.DEFAULT)
  function = meta_gradient(variants.DEFAULT)
  _, gradient = function(theta, 10**6, 0.01)
  rate, size = theta["step"]["log_rate"], 0.05

  def at(shift):
    moved = {**theta["step"], "log_rate": np.float32(rate + shift)}
    return float(function({**theta, "step": moved}, 10**6, 0.01)[0])

  slope = (at(size) - at(-size)) / (2 * size)
  assert slope < 0
  np.testing.assert_allclose(gradient["step"]["log_rate"], slope, rtol=0.02)
