"""Untrained, the optimizer is the optax optimizer that it says it is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flt_lopt
from flt_lopt import flat, memory
from flt_lopt.layout import BLOCK, FlatLayout

STEPS = 300
SHAPES = {"b": (30,), "s": (), "w": (20, 30)}
CASES = [(name, n) for name, bank in memory.MEMORIES.items() for n in bank]


def stream(dtype=np.float32):
  """Returns gradients of 300 steps whose scale wanders over four decades."""
  rng = np.random.default_rng(0)
  scale = 10.0 ** rng.uniform(-3, 1, size=STEPS)
  return {
    name: (
      rng.normal(size=(STEPS, *shape))
      * scale.reshape(STEPS, *([1] * len(shape)))
    ).astype(dtype)
    for name, shape in SHAPES.items()
  }


def raw_updates(tx, grads, params):
  @jax.jit
  def run():
    def step(state, gradient):
      updates, state = tx.update(gradient, state, params)
      return state, updates

    return jax.lax.scan(step, tx.init(params), grads)[1]

  return run()


def largest_difference(a, b):
  return max(
    float(np.max(np.abs(x - y)))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


@pytest.mark.parametrize("name,floats", CASES)
@pytest.mark.parametrize("num_steps", [STEPS, None])
def test_untrained_is_adamw(name, floats, num_steps):
  config = flt_lopt.OptimizerConfig(
    memory=name, memory_floats=floats, init_learning_rate=1.0
  )
  lopt = flt_lopt.LearnedOptimizer(config)
  theta = lopt.init(jax.random.key(0))
  params = {k: np.full(s, 0.3, np.float32) for k, s in SHAPES.items()}
  tx = lopt.transform(theta, num_steps=num_steps, weight_decay=0.01)
  reference = lopt.reference(num_steps=num_steps, weight_decay=0.01)
  ours, adamw = (raw_updates(t, stream(), params) for t in (tx, reference))
  assert largest_difference(ours, adamw) < 2e-5


def test_untrained_is_adamw_in_float64():
  with jax.enable_x64(True):
    # optax's epsilon is absolute: 1e-8 next to gradients of 1e-3 is 1e-5.
    lopt = flt_lopt.LearnedOptimizer(
      flt_lopt.OptimizerConfig(init_learning_rate=1.0, epsilon_mode="absolute")
    )
    theta = lopt.init(jax.random.key(0))
    params = {k: np.full(s, 0.3) for k, s in SHAPES.items()}
    tx = lopt.transform(theta, num_steps=STEPS)

    def schedule(count):  # optax's own is float32 even so.
      t, warmup = count.astype(jnp.float64), STEPS // 20
      spent = (t - warmup) / (STEPS - warmup)
      cosine = 0.01 + 0.99 * 0.5 * (1 + jnp.cos(jnp.pi * spent))
      return jnp.where(t < warmup, (t + 1) / (warmup + 1), cosine)

    reference = optax.adamw(schedule, weight_decay=0.0)
    ours, adamw = (
      raw_updates(t, stream(np.float64), params) for t in (tx, reference)
    )
    assert jax.tree.leaves(ours)[0].dtype == np.float64
    assert largest_difference(ours, adamw) < 1e-10


def perturbed(lopt, scale=0.1):
  theta = lopt.init(jax.random.key(0))
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: x + scale * rng.normal(size=x.shape).astype(np.float32), theta
  )


@pytest.mark.parametrize("name,floats", CASES)
def test_flat_and_leaf_layouts_agree(name, floats):
  config = flt_lopt.OptimizerConfig(memory=name, memory_floats=floats)
  lopt = flt_lopt.LearnedOptimizer(config)
  theta = perturbed(lopt)
  rng = np.random.default_rng(1)
  params = {k: rng.normal(size=s).astype(np.float32) for k, s in SHAPES.items()}
  grads = jax.tree.map(lambda x: x[:50], stream())
  leafwise = raw_updates(lopt.transform(theta, num_steps=50), grads, params)

  layout = FlatLayout([SHAPES[k] for k in sorted(SHAPES)])
  flat_params = layout.flatten([jnp.asarray(params[k]) for k in sorted(params)])

  @jax.jit
  def run():
    def step(state, gradient):
      gradient = layout.flatten([gradient[k] for k in sorted(gradient)])
      updates, state = flat.update(
        config,
        theta,
        layout,
        gradient,
        state,
        flat_params,
        num_steps=jnp.float32(50),
      )
      return state, updates

    return jax.lax.scan(step, flat.init(config, layout), grads)[1]

  flatwise = run()
  padding = np.asarray(layout.mask) == 0
  assert padding.any() and np.all(np.asarray(flatwise)[:, padding] == 0)
  unflat = jax.vmap(layout.unflatten)(flatwise)
  for key, got in zip(sorted(SHAPES), unflat, strict=True):
    np.testing.assert_allclose(
      got, leafwise[key], rtol=2e-3, atol=2e-6, err_msg=key
    )


def test_flat_layout_keeps_every_number():
  shapes = [(3, 5), (), (BLOCK,), (BLOCK + 1,), (0, 2), (7, 11, 2)]
  layout = FlatLayout(shapes)
  leaves = [
    jnp.asarray(np.random.default_rng(i).normal(size=s), jnp.float32)
    for i, s in enumerate(shapes)
  ]
  packed = layout.flatten(leaves)
  for leaf, back in zip(leaves, layout.unflatten(packed), strict=True):
    np.testing.assert_array_equal(leaf, back)
  np.testing.assert_allclose(
    layout.collect([packed]), [x.sum() for x in leaves], rtol=1e-5, atol=1e-6
  )


def test_loss_scale_drops_out():
  lopt = flt_lopt.LearnedOptimizer()
  tx = lopt.transform(perturbed(lopt), num_steps=50)
  params = {k: np.full(s, 0.3, np.float32) for k, s in SHAPES.items()}
  grads = jax.tree.map(lambda x: x[:50], stream())
  plain = raw_updates(tx, grads, params)
  for factor, tolerance in ((2.0**12, 0.0), (1e4, 2e-4)):
    scaled = optax.tree.scale(np.float32(factor), grads)
    other = raw_updates(tx, scaled, params)
    size = float(np.max(np.abs(plain["w"])))
    assert largest_difference(plain, other) <= tolerance * size


def test_safeguard_skips_what_is_not_finite():
  lopt = flt_lopt.LearnedOptimizer()
  tx = lopt.transform(perturbed(lopt), num_steps=50)
  params = {"a": np.ones(4, np.float32), "b": np.ones((2, 2), np.float32)}
  good = jax.tree.map(lambda x: 0.1 * x, params)
  update = jax.jit(tx.update)
  _, state = update(good, tx.init(params), params)
  for bad in (np.nan, np.inf):
    grads = {"a": np.array([0.1, bad, 0.1, 0.1], np.float32), "b": good["b"]}
    updates, after = update(grads, state, params)
    assert np.all(updates["a"] == 0)
    assert np.all(np.isfinite(updates["b"])) and np.all(updates["b"] != 0)
    for before_mode, mode in zip(state.modes, after.modes, strict=True):
      np.testing.assert_array_equal(before_mode["a"], mode["a"])
    updates, _ = update(good, after, params)
    assert np.all(np.isfinite(updates["a"])) and np.all(updates["a"] != 0)


def test_safeguard_falls_back_to_the_nominal_direction():
  lopt = flt_lopt.LearnedOptimizer()
  theta = lopt.init(jax.random.key(0))
  # A residual that points against the nominal direction, and is larger.
  first = np.zeros(theta["direction"]["first"].shape, np.float32)
  first[0, 0], first[0, 1] = 5.0, -5.0
  last = np.zeros(theta["direction"]["last"].shape, np.float32)
  last[0], last[1] = -1.0, 1.0
  against = {**theta["direction"], "first": first, "last": last}
  params = {"a": np.ones(4, np.float32)}
  grads = {"a": np.array([0.1, -0.2, 0.3, 0.1], np.float32)}
  results = []
  for chosen in (theta, {**theta, "direction": against}):
    tx = lopt.transform(chosen, num_steps=50)
    updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)
    results.append(updates["a"])
  np.testing.assert_allclose(results[1], results[0], rtol=1e-5)


def test_schedule_is_the_one_of_optax():
  lopt = flt_lopt.LearnedOptimizer(
    flt_lopt.OptimizerConfig(init_learning_rate=1.0)
  )
  theta = lopt.init(jax.random.key(0))
  params = {"a": np.ones(3, np.float32)}
  for num_steps in (1, 7, 40, None):
    count = (num_steps or 120) + 20
    grads = {"a": np.ones((count, 3), np.float32)}
    ours = raw_updates(
      lopt.transform(theta, num_steps=num_steps), grads, params
    )
    want = raw_updates(lopt.reference(num_steps=num_steps), grads, params)
    np.testing.assert_allclose(ours["a"], want["a"], rtol=1e-4)
  assert isinstance(lopt.transform(theta), optax.GradientTransformation)
