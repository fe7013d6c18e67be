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
def test_a_value_may_be_given_and_is_never_required(name):
  tx = variants.make(name)
  without, _ = advance(tx, tx.init(PARAMS), PARAMS, 3)
  # The same loss at every step has no trend to be learned from.
  flat, _ = advance(tx, tx.init(PARAMS), PARAMS, 3, value=2.0)
  assert all_finite(without) and all_finite(flat)
  for bad in (np.nan, np.inf):
    updates, _ = advance(tx, tx.init(PARAMS), PARAMS, 3, value=bad)
    assert all_finite(updates)


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
def test_zero_gradients_move_nothing_far_whatever_was_learned(name):
  learned = dict(variants.theta(name))
  zeros = jax.tree.map(np.zeros_like, PARAMS)
  for exponent in (-1.0, -1.5):  # Lengths that do not fall with the gradient.
    if "exponents" not in learned.get("step", {}):
      pytest.skip("has no learned exponents")
    step = {**learned["step"], "exponents": np.float32([0.0, exponent])}
    tx = variants.family(name).transform({**learned, "step": step})
    updates, _ = tx.update(zeros, tx.init(PARAMS), PARAMS)
    assert variants.largest(updates) < 3e-3  # At a step size of 1e-3.


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
  donated = jax.jit(step, donate_argnums=(1, 2))

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
  number = rows * columns + columns
  floats = variants.config(name).memory_floats
  assert total / number <= 4 * floats + 4 * 8 * (rows + columns) / number
