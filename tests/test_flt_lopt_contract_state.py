"""The second part of the contract: what a long, real run relies on.

Checkpoints, donated buffers, float64, gradients that are zero or not finite,
the loss as an optional input, and a state of the promised size.
"""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimizer_variants as variants
import pytest
from optimizer_variants import every_variant, few_variants

from flt_lopt import flat
from flt_lopt.layout import FlatLayout, infos

PARAMS = variants.parameters()
GRADS = [
  jax.tree.map(lambda x, i=i: x[i], variants.stream(steps=3)) for i in range(3)
]


def advance(tx, state, params, steps, **extra):
  """Returns (updates, state) after steps with the first gradients."""
  for gradient in GRADS[:steps]:
    updates, state = tx.update(gradient, state, params, **extra)
  return updates, state


def all_finite(tree):
  return all(np.all(np.isfinite(x)) for x in jax.tree.leaves(tree))


def memory_of(tx, state, name):
  """Returns the state leaves that belong to one parameter."""
  leaves = []

  def take(leaf, owner):
    if owner == name:
      leaves.append(leaf)
    return leaf

  optax.tree.map_params(tx, take, state, {key: key for key in PARAMS})
  assert leaves
  return leaves


@every_variant
def test_a_value_is_used_when_given_and_never_required(name):
  tx = variants.make(name)

  def last(*values):
    """Returns the third updates, for the losses of three steps."""
    state = tx.init(PARAMS)
    for gradient, value in zip(GRADS, values, strict=True):
      extra = {} if value is None else {"value": value}
      updates, state = tx.update(gradient, state, PARAMS, **extra)
    assert all_finite(updates)
    return updates

  def differ(a, b):
    return any(np.any(a[key] != b[key]) for key in PARAMS)

  without, falling = last(None, None, None), last(3.0, 2.0, 1.0)
  uses = variants.config(name).controller != "off"
  assert differ(falling, without) == uses
  assert differ(falling, last(1.0, 2.0, 3.0)) == uses
  # Its scale does not matter, nor one that is not finite.
  assert not differ(falling, last(12.0, 8.0, 4.0))
  assert not differ(falling, last(jnp.float32(3.0), np.float64(2.0), 1))
  assert not differ(without, last(np.nan, np.inf, -np.inf))


@pytest.mark.parametrize(
  "name, is_fixed", [("ema", True), ("flt_damped", False)]
)
def test_nothing_that_is_learned_moves_a_fixed_memory(name, is_fixed):
  kept = []
  for noise in (0.0, 0.5):
    tx = variants.make(name, noise=noise)
    _, state = advance(tx, tx.init(PARAMS), PARAMS, 3)
    kept.append((state.tensors.mass, state.modes, state.second))
  same = jax.tree.map(lambda a, b: bool(np.all(a == b)), *kept)
  assert all(jax.tree.leaves(same)) == is_fixed


@few_variants
def test_zero_gradients_give_zero_updates(name):
  untrained = variants.make(name, noise=0.0)
  zeros = jax.tree.map(np.zeros_like, PARAMS)
  state = untrained.init(PARAMS)
  for _ in range(2):
    updates, state = untrained.update(zeros, state, PARAMS)
    assert all(np.all(x == 0) for x in jax.tree.leaves(updates))
  tx = variants.make(name)
  updates, state = tx.update(zeros, tx.init(PARAMS), PARAMS)
  assert all_finite(updates) and all_finite(state)
  # A gradient of zeros after others is not special.
  _, state = advance(tx, state, PARAMS, 2)
  updates, state = tx.update(zeros, state, PARAMS)
  assert all_finite(updates) and all_finite(state)


@few_variants
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_zero_gradients_move_nothing_far_whatever_was_learned(name, noise):
  learned = dict(variants.theta(name, noise=noise))
  zeros = jax.tree.map(np.zeros_like, PARAMS)
  if "exponents" not in learned["step"]:
    pytest.skip("has no learned exponents")
  # The length of a step would grow while the direction falls.
  step = {**learned["step"], "exponents": np.float32([[0.0, -1.5]] * 2)}
  tx = variants.family(name).transform({**learned, "step": step})
  limit = 2e-2  # At a step size of 1e-3.
  updates, _ = tx.update(zeros, tx.init(PARAMS), PARAMS)
  assert variants.largest(updates) < limit
  # Nor while the memory of the last gradient fades.
  _, state = tx.update(GRADS[0], tx.init(PARAMS), PARAMS)
  for _ in range(100):
    updates, state = tx.update(zeros, state, PARAMS)
    assert variants.largest(updates) < limit


@every_variant
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_is_skipped(name, bad):
  tx = variants.make(name)
  _, state = advance(tx, tx.init(PARAMS), PARAMS, 2)
  gradient = jax.tree.map(np.copy, GRADS[2])
  gradient["w"][1, 2] = bad
  updates, after = tx.update(gradient, state, PARAMS)
  assert np.all(updates["w"] == 0)
  for key in ("b", "k", "s"):
    assert np.all(np.isfinite(updates[key])) and np.any(updates[key] != 0)
  assert all_finite(after)

  memories = memory_of(tx, state, "w"), memory_of(tx, after, "w")
  jax.tree.map(np.testing.assert_array_equal, *memories)
  # The next sound gradient moves it as if nothing had been.
  updates, after = tx.update(GRADS[2], after, PARAMS)
  assert all_finite(updates) and np.any(updates["w"] != 0)


@few_variants
def test_two_hundred_skipped_steps_leave_no_trace(name):
  """The scale of the memory follows the last gradient that was sound."""
  tx = variants.make(name)
  # A spike is a gradient far above the second moment's root.
  spike = jax.tree.map(lambda x: np.full_like(x, 10.0), PARAMS)
  broken = jax.tree.map(lambda x: np.full_like(x, np.nan), PARAMS)

  @jax.jit
  def update(gradient, state):
    return tx.update(gradient, state, PARAMS)

  @jax.jit
  def skip(state):
    def step(state, _):
      updates, state = tx.update(broken, state, PARAMS)
      return state, updates

    return jax.lax.scan(step, state, None, length=200)

  state = tx.init(PARAMS)
  for gradient in (*GRADS, spike):
    _, state = update(gradient, state)
  after, updates = skip(state)
  assert all(np.all(x == 0) for x in jax.tree.leaves(updates))
  assert after.count == state.count + 200
  # The clock goes on, and the controller, which sees it.
  tensors = after.tensors._replace(controller=state.tensors.controller)
  after = after._replace(count=state.count, tensors=tensors)
  jax.tree.map(np.testing.assert_array_equal, after, state)
  want, _ = update(GRADS[0], state)
  got, _ = update(GRADS[0], after)
  jax.tree.map(np.testing.assert_array_equal, got, want)


def test_skipped_steps_leave_no_trace_in_the_flat_layout():
  config, theta = variants.config("flt_damped"), variants.theta("flt_damped")
  layout = FlatLayout(infos(PARAMS))
  packed = layout.flatten(jax.tree.leaves(PARAMS))

  @jax.jit
  def update(gradient, state):
    return flat.update(
      config,
      theta,
      layout,
      gradient,
      state,
      packed,
      num_steps=jnp.float32(variants.STEPS),
    )[1]

  state = flat.init(config, layout)
  for gradient in (packed, 10.0 * layout.mask):
    state = update(gradient, state)
  after = state
  for _ in range(20):
    after = update(jnp.nan * layout.mask, after)
  for field in ("mass", "exponent", "stats"):
    kept = getattr(after.tensors, field), getattr(state.tensors, field)
    jax.tree.map(np.testing.assert_array_equal, *kept)
  jax.tree.map(np.testing.assert_array_equal, after.modes, state.modes)
  jax.tree.map(np.testing.assert_array_equal, after.second, state.second)


@every_variant
def test_state_comes_back_from_orbax(name, tmp_path):
  orbax = pytest.importorskip("orbax.checkpoint")
  tx = variants.make(name)
  _, state = advance(tx, tx.init(PARAMS), PARAMS, 2)
  with orbax.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / "state", state)
    checkpointer.wait_until_finished()
    target = jax.eval_shape(tx.init, PARAMS)
    restored = checkpointer.restore(tmp_path / "state", target)
  assert jax.tree.structure(restored) == jax.tree.structure(state)
  jax.tree.map(np.testing.assert_array_equal, restored, state)
  want, _ = tx.update(GRADS[2], state, PARAMS)
  got, _ = tx.update(GRADS[2], restored, PARAMS)
  jax.tree.map(np.testing.assert_array_equal, got, want)


@few_variants
def test_state_and_parameters_may_be_donated(name):
  tx = variants.make(name)

  def step(gradient, state, params):
    updates, state = tx.update(gradient, state, params)
    return optax.apply_updates(params, updates), state

  kept = jax.jit(step)
  # Without an encoding the last position is not read, and would be left out.
  donated = jax.jit(step, donate_argnums=(1, 2), keep_unused=True)

  def start():
    params = jax.tree.map(jnp.array, PARAMS)
    return tx.init(params), params

  (state, params), (other_state, other) = start(), start()
  with warnings.catch_warnings():
    warnings.simplefilter("error")  # "Some donated buffers were not usable"
    for gradient in GRADS:
      old = jax.tree.leaves((other_state, other))
      other, other_state = donated(gradient, other_state, other)
      assert all(x.is_deleted() for x in old)
  for gradient in GRADS:
    params, state = kept(gradient, state, params)
  assert variants.relative_difference(other, params) < 1e-6
  assert other_state.count == state.count == len(GRADS)


@few_variants
def test_float64_is_float64_throughout(name):
  run = variants.run(name)
  with jax.enable_x64(True):
    params = variants.parameters(dtype=np.float64)
    grads = variants.stream(dtype=np.float64)
    plain = run(grads, params)
    # Any number on the way that is a float32 would be rounded otherwise.
    scaled = run(optax.tree.scale(np.float64(1e5), grads), params)
    state = variants.make(name).init(params)
    dtypes = {x.dtype for x in jax.tree.leaves(state) if x.ndim}
  assert np.dtype(np.float32) not in dtypes
  for key, want in plain.items():
    assert want.dtype == np.float64
    assert variants.largest(scaled[key] - want) < 1e-12 * variants.largest(want)
  narrow = run(variants.stream(), variants.parameters())
  assert variants.relative_difference(narrow, plain) < 1e-4


@every_variant
def test_state_has_the_promised_size(name):
  rows, columns = 400, 500
  params = {
    "w": jax.ShapeDtypeStruct((rows, columns), jnp.float32),
    "b": jax.ShapeDtypeStruct((columns,), jnp.float32),
  }
  state = jax.eval_shape(variants.make(name).init, params)
  total = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
  assert variants.family(name).state_bytes(params) == total
  config = variants.config(name)
  size = 2 if config.storage == "bfloat16" else 4
  least = size * config.state_floats * rows * columns
  assert least <= total <= 1.01 * least + 4 * 8 * (rows + columns)


@pytest.mark.parametrize(
  "make_state",
  [
    lambda tx: tx.init({**PARAMS, "w": np.zeros((1, 6), np.float32)}),
    lambda tx: tx.init({"w": PARAMS["w"]}),
    lambda tx: optax.adam(1e-3).init(PARAMS),
    lambda tx: variants.make("no_controller").init(PARAMS),
    lambda tx: variants.make("flt_damped_6").init(PARAMS),
    lambda tx: variants.make("factored").init(PARAMS),
    lambda tx: tx.init(PARAMS)._replace(modes=()),
    lambda tx: None,
  ],
  ids=["other shapes", "fewer", "adam's"]
  + ["no controller", "more floats", "factored", "broken", "none"],
)
def test_a_state_of_something_else_is_refused(make_state):
  tx = variants.make(variants.DEFAULT)
  with pytest.raises(ValueError, match="not of this optimizer and of param"):
    tx.update(GRADS[0], make_state(tx), PARAMS)
