"""The limit of a tensor's gradient by its own size.

The contract of every variant is tested with a limit too (`limited`, slow).
"""

import dataclasses
import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import optimizer_variants as variants
import pytest

import flt_lopt

LIMIT = 1.5


def made(limit, **options):
  config = variants.config("linear", gradient_limit=limit)
  theta = variants.theta("linear")
  return flt_lopt.LearnedOptimizer(config).transform(theta, **options)


def test_gradients_are_scaled_down_before_all_else():
  """A limit is the optimizer without it behind a scaling of whole tensors."""
  params, gradients = variants.parameters(), variants.stream()
  limited, plain = made(LIMIT), made(None)
  ours, theirs = limited.init(params), plain.init(params)
  scaled = 0
  for step in range(variants.STEPS):
    gradient = jax.tree.map(lambda x, step=step: x[step], gradients)
    tensors = theirs.tensors
    size = np.sqrt(tensors.stats.second) * np.exp2(tensors.exponent)
    factors = [
      min(1.0, LIMIT * r / np.mean(np.abs(g))) if r > 0 else 1.0
      for r, g in zip(size, jax.tree.leaves(gradient), strict=True)
    ]
    scaled += sum(factor < 0.5 for factor in factors)
    given = [
      np.float32(factor) * g
      for factor, g in zip(factors, jax.tree.leaves(gradient), strict=True)
    ]
    given = jax.tree.unflatten(jax.tree.structure(gradient), given)
    got, ours = limited.update(gradient, ours, params)
    want, theirs = plain.update(given, theirs, params)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-9),
      got,
      want,
    )
  assert scaled >= 5


def test_gradients_below_it_keep_every_bit():
  params = variants.parameters()
  gradients = jax.tree.map(np.sign, variants.stream())
  one, other = (
    variants.raw_updates(made(limit), gradients, params)
    for limit in (None, 1.5)
  )
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_tensor_whose_gradient_was_zero_is_not_held_back():
  params = variants.parameters()
  gradients = jax.tree.map(np.array, variants.stream())
  gradients["w"][:10] = 0
  one, other = (
    variants.raw_updates(made(limit), gradients, params)["w"][10]
    for limit in (None, 1.0)
  )
  np.testing.assert_allclose(one, other, rtol=1e-6)
  assert np.all(one != 0)


@pytest.mark.parametrize("exponent", [-100, 100])
def test_a_power_of_two_in_the_loss_changes_no_bit(exponent):
  scaled = optax.tree.scale(np.float32(2.0**exponent), variants.stream())
  run, params = variants.run("limited"), variants.parameters()
  one, other = run(variants.stream(), params), run(scaled, params)
  jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("factor", [1e-30, 1e-23, 1e20, 1e25])
def test_the_meta_gradient_is_that_of_any_loss_scale(factor):
  """Through runs of which every fifth gradient is beyond the limit."""
  spikes = np.where(np.arange(variants.STEPS) % 5 == 4, 100.0, 1.0)
  rng = np.random.default_rng(0)
  gradients = {
    name: np.float32(
      spikes.reshape(-1, *[1] * len(shape))
      * rng.normal(size=(variants.STEPS, *shape))
    )
    for name, shape in variants.SHAPES.items()
  }
  config, params = variants.config("limited"), variants.parameters()
  lopt = flt_lopt.LearnedOptimizer(config)

  @jax.jit
  def slope(theta, gradients):
    def end(theta):
      tx = lopt.transform(theta, num_steps=variants.STEPS)

      def step(state, gradient):
        updates, state = tx.update(gradient, state, params)
        return state, sum(jnp.sum(u**2) for u in jax.tree.leaves(updates))

      return jnp.sum(jax.lax.scan(step, tx.init(params), gradients)[1])

    return jax.flatten_util.ravel_pytree(jax.grad(end)(theta))[0]

  theta = variants.theta("limited")
  plain = slope(theta, gradients)
  found = slope(theta, optax.tree.scale(np.float32(factor), gradients))
  assert np.linalg.norm(plain) > 0
  np.testing.assert_allclose(
    found, plain, rtol=1e-2, atol=1e-3 * np.linalg.norm(plain)
  )


def final_loss(limit, outlier):
  """Returns the loss of regression where one batch in 50 has huge gradients.

  It is the geometric mean over eight draws of the data.
  """
  rng = np.random.default_rng(0)
  inputs = jnp.asarray(rng.normal(size=(8, 256, 16)), jnp.float32)
  maps = jnp.asarray(rng.normal(size=(8, 16, 4)), jnp.float32)
  targets = jnp.tanh(inputs @ maps / 4)
  shapes = {"a": (16, 32), "b": (32,), "c": (32, 4)}
  config, theta = flt_lopt.load("flt-starter")
  config = dataclasses.replace(config, gradient_limit=limit)
  tx = flt_lopt.LearnedOptimizer(config).transform(theta, num_steps=1000)

  def loss(params, x, y):
    hidden = jnp.tanh(x @ params["a"] + params["b"])
    return jnp.mean((hidden @ params["c"] - y) ** 2)

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(None, 0, 0))
  def run(params, x, y):
    def step(carry, t):
      params, state = carry
      factor = jnp.where(t % 50 == 49, outlier, 1.0)
      gradient = optax.tree.scale(factor, jax.grad(loss)(params, x, y))
      updates, state = tx.update(gradient, state, params)
      return (optax.apply_updates(params, updates), state), None

    carry = params, tx.init(params)
    (params, _), _ = jax.lax.scan(step, carry, jnp.arange(1000))
    return loss(params, x, y)

  losses = run(variants.parameters(shapes), inputs, targets)
  return float(jnp.exp(jnp.mean(jnp.log(losses))))


def test_outliers_no_longer_undo_training():
  calm, upset, limited = (
    final_loss(None, 1.0),
    final_loss(None, 1e4),
    final_loss(4.0, 1e4),
  )
  assert upset > 10 * calm
  assert limited < 3 * calm


@pytest.mark.parametrize(
  "limit", [0.5, 0, -1, 1e7, float("inf"), float("nan"), True, "2"]
)
def test_a_limit_that_can_not_be_is_refused(limit):
  with pytest.raises(ValueError, match="gradient_limit="):
    flt_lopt.OptimizerConfig(gradient_limit=limit)
