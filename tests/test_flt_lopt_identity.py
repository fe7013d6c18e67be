"""Untrained, the optimizer is the optax optimizer that it says it is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimizer_variants as variants
import pytest

import flt_lopt
from flt_lopt import references
from flt_lopt.layout import BLOCK, FlatLayout, TensorInfo
from flt_lopt.memory import second_moment

STEPS = 300
SHAPES = {
  "b": (30,),
  "c": (3, 2, 4, 6),
  "h": (12, 3, 5),
  "k": (3, 7, 5),
  "s": (),
  "w": (20, 30),
}


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


def largest_difference(a, b):
  return max(
    float(np.max(np.abs(x - y)))
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
  )


def compared(name, dtype, num_steps, **changes):
  """Returns updates of the untrained variant and of its reference."""
  config = variants.config(name, init_learning_rate=1.0, **changes)
  lopt = flt_lopt.LearnedOptimizer(config)
  theta = lopt.init(jax.random.key(0))
  params = {k: np.full(s, 0.3, dtype) for k, s in SHAPES.items()}
  options = {"num_steps": num_steps, "weight_decay": 0.01}
  return [
    variants.raw_updates(tx, stream(dtype), params)
    for tx in (lopt.transform(theta, **options), lopt.reference(**options))
  ]


@pytest.mark.parametrize(
  "changes",
  [
    {"second_moment": "factored", "nesterov": True},
    {"second_moment": "factored", "geometry": "normalized", "first_beta": 0.8},
    {"memory": "keys", "geometry": "normalized", "nesterov": True},
  ],
  ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_so_is_what_has_several_options(changes):
  ours, reference = compared(variants.DEFAULT, np.float32, None, **changes)
  assert largest_difference(ours, reference) < 2e-5


@pytest.mark.parametrize("name", variants.NAMES)
def test_untrained_is_its_reference(name):
  for num_steps in (STEPS, None) if name == variants.DEFAULT else (STEPS,):
    ours, reference = compared(name, np.float32, num_steps)
    # Where the gradient itself is divided by its root second moment, updates
    # reach 7. optax's float32 `1 - 0.999` is off by 1.3e-5, so its second
    # moment by 6.5e-6 of them; in float64 both agree to 1e-10.
    size = largest_difference(reference, jax.tree.map(np.zeros_like, reference))
    assert size < 30
    assert largest_difference(ours, reference) < max(2e-5, 7.5e-6 * size)


@pytest.mark.parametrize(
  "name",
  [
    name
    if name in (variants.DEFAULT, "none", "orthogonal", "factored")
    else pytest.param(name, marks=pytest.mark.slow)
    for name in variants.NAMES
  ],
)
def test_untrained_is_its_reference_in_float64(name, monkeypatch):
  def schedule(num_steps):  # optax's own is float32 even so.
    def rate(count):
      t, warmup = count.astype(jnp.float64), num_steps // 20
      spent = (t - warmup) / (num_steps - warmup)
      cosine = 0.01 + 0.99 * 0.5 * (1 + jnp.cos(jnp.pi * spent))
      return jnp.where(t < warmup, (t + 1) / (warmup + 1), cosine)

    return rate

  monkeypatch.setattr(references, "reference_schedule", schedule)
  with jax.enable_x64(True):
    # optax's epsilon is absolute, also next to the norm of a matrix.
    changes = {"epsilon_mode": "absolute"}
    if name == "orthogonal":
      changes["epsilon"] = 1e-20
    ours, reference = compared(name, np.float64, STEPS, **changes)
    assert jax.tree.leaves(ours)[0].dtype == np.float64
    assert largest_difference(ours, reference) < 1e-10


def test_flat_layout_keeps_every_number():
  shapes = [(3, 5), (), (BLOCK,), (BLOCK + 1,), (0, 2), (7, 11, 2)]
  layout = FlatLayout([TensorInfo(s) for s in shapes])
  leaves = [
    jnp.asarray(np.random.default_rng(i).normal(size=s), jnp.float32)
    for i, s in enumerate(shapes)
  ]
  packed = layout.flatten(leaves)
  for leaf, back in zip(leaves, layout.unflatten(packed), strict=True):
    np.testing.assert_array_equal(leaf, back)
  np.testing.assert_allclose(
    layout.collect(packed), [x.sum() for x in leaves], rtol=1e-5, atol=1e-6
  )


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
    ours = variants.raw_updates(
      lopt.transform(theta, num_steps=num_steps), grads, params
    )
    want = variants.raw_updates(
      lopt.reference(num_steps=num_steps), grads, params
    )
    np.testing.assert_allclose(ours["a"], want["a"], rtol=1e-4)
  assert isinstance(lopt.transform(theta), optax.GradientTransformation)


def test_linear_is_what_remains_of_a_network_that_says_nothing():
  """Whatever else was learned: readings of the memory, steps, controller."""
  learned = variants.theta("linear", noise=0.2)
  silent = variants.family("flt_damped").init(jax.random.key(0))["direction"]
  whole = {**learned, "direction": silent}
  assert "direction" not in learned
  found, expected = (
    variants.raw_updates(
      variants.family(name).transform(theta, num_steps=variants.STEPS),
      variants.stream(),
      variants.parameters(),
    )
    for name, theta in (("linear", learned), ("flt_damped", whole))
  )
  assert variants.relative_difference(found, expected) < 1e-5


def test_a_factored_moment_far_from_rank_one_moves_nothing_far(monkeypatch):
  """One large element makes the factors of its row and column tell little."""
  grads = np.random.default_rng(0).normal(size=(3, 9, 2)).astype(np.float32)
  grads[2] = 0.0
  grads[2, 4, 0] = 7e3
  params = {"w": np.ones((9, 2), np.float32)}
  lopt = flt_lopt.LearnedOptimizer(flt_lopt.make_variant("factored"))
  theta = lopt.init(jax.random.key(0))

  def last(tx):
    return np.asarray(variants.raw_updates(tx, {"w": grads}, params)["w"][-1])

  limited = last(lopt.transform(theta))
  np.testing.assert_allclose(limited, last(lopt.reference()), rtol=1e-4)
  monkeypatch.setattr(second_moment, "MAX_DIRECTION", np.inf)
  unlimited = last(lopt.reference())
  assert np.max(np.abs(unlimited)) > 10 * np.max(np.abs(limited))
