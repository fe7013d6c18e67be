"""Sizes of steps: what each geometry promises of an untrained optimizer."""

import jax
import jax.numpy as jnp
import numpy as np
import optimizer_variants as variants
import pytest

import flt_lopt
from flt_lopt import geometry
from flt_lopt.layout import TensorInfo

SHAPES = {
  "conv": (3, 3, 4, 8),
  "heads": (16, 4, 8),
  "scalar": (),
  "stack": (2, 6, 5),
  "tall": (40, 3),
  "vector": (30,),
  "wide": (3, 40),
}
FAN_IN = {"conv": 36, "heads": 16, "stack": 6, "tall": 40, "wide": 3}
STEPS = 20


def updates(name, scale, gamma=0.0, parameter=0.3):
  """Updates at the last of some steps with random gradients."""
  lopt = flt_lopt.LearnedOptimizer(flt_lopt.make_variant(name))
  theta = lopt.init(jax.random.key(0))
  exponents = theta["step"]["exponents"].at[1, 0].set(gamma)
  theta["step"] |= {"exponents": exponents}
  tx = lopt.transform(theta)
  params = {k: np.full(s, parameter, np.float32) for k, s in SHAPES.items()}
  rng = np.random.default_rng(0)
  grads = {
    k: np.float32(scale * rng.normal(size=(STEPS, *s)))
    for k, s in SHAPES.items()
  }

  rate = lopt.config.init_learning_rate * STEPS / 101
  found = variants.raw_updates(tx, grads, params)
  return {k: u[-1] / rate for k, u in found.items()}


def rms(x):
  return float(jnp.sqrt(jnp.mean(jnp.square(x))))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_normalized_steps_of_matrices_follow_their_shape_alone(scale):
  found = updates("normalized", scale)
  for name, inputs in FAN_IN.items():
    wide = max(inputs / geometry.NARROW, 1.0)
    assert rms(found[name]) == pytest.approx((inputs * wide) ** -0.5, rel=1e-5)
  # The others move as Adam's do, by much less than 1 where signs change.
  assert rms(found["vector"]) < 0.6


def test_orthogonal_steps_have_the_same_size():
  found = updates("orthogonal", 1.0)
  for name, inputs in FAN_IN.items():
    # Singular values end between 0.7 and 1.2, as Muon's do.
    size = rms(found[name]) * inputs**0.5
    assert 0.6 < size < 1.3, name


def test_relative_steps_are_in_proportion_to_usual_parameters():
  """With gamma = 1 a matrix of RMS r moves by r, in units of the rate."""
  found = updates("normalized", 1.0, gamma=1.0)
  for name, inputs in FAN_IN.items():
    wide = max(inputs / geometry.NARROW, 1.0) ** 0.5
    assert rms(found[name]) == pytest.approx(0.3 / wide, rel=1e-4)
  usual = updates("normalized", 1.0, gamma=0.7, parameter=16**-0.5)
  assert rms(usual["heads"]) == pytest.approx(16**-0.5, rel=1e-4)


@pytest.mark.parametrize("name", ["normalized", "orthogonal"])
def test_what_a_step_changes_does_not_grow_with_the_inputs(name):
  """A step along x y^T, for inputs x and outputs y of size 1 an element."""
  lopt = flt_lopt.LearnedOptimizer(flt_lopt.make_variant(name))
  theta = lopt.init(jax.random.key(0))
  tx = lopt.transform(theta)

  def change(inputs):
    rng = np.random.default_rng(0)
    x = rng.choice([-1.0, 1.0], size=inputs)
    y = rng.choice([-1.0, 1.0], size=inputs)
    params = {"w": jnp.asarray(rng.normal(size=(inputs, inputs)) / inputs**0.5)}
    updates, _ = tx.update({"w": jnp.outer(x, y)}, tx.init(params), params)
    return rms(x @ np.asarray(updates["w"]))

  narrow, wide = change(32), change(512)
  assert wide == pytest.approx(narrow, rel=0.3)


@pytest.mark.parametrize("read", [0.0, 0.1])
def test_normalized_steps_fade_where_gradients_have_become_zero(read):
  """Also where a slow mode, read a little, remembers them for long."""
  lopt = flt_lopt.LearnedOptimizer(flt_lopt.make_variant("normalized"))
  theta = lopt.init(jax.random.key(0))
  theta["memory"] |= {"read": theta["memory"]["read"].at[1].add(read)}
  tx = lopt.transform(theta)
  params = {"w": np.full((24, 25), 0.3, np.float32)}
  gradients = np.zeros((800, 24, 25), np.float32)
  gradients[:300] = np.random.default_rng(0).normal(size=(300, 24, 25))

  moved = np.asarray(variants.raw_updates(tx, {"w": gradients}, params)["w"])
  sizes = np.sqrt(np.mean(moved**2, axis=(1, 2)))
  assert sizes[300:].sum() < 50 * sizes[299]
  assert sizes[-1] < 0.01 * sizes[299]


def lengths(rho, spread, before, last):
  """Norms of an untrained matrix's steps over those of full length.

  Args:
    rho: the exponent of matrices.
    spread: of the tensor's gradients, element by element.
    before: scale of the gradient of each step before.
    last: scales of the gradient of the step after them, each looked at alone.
  """
  lopt = flt_lopt.LearnedOptimizer(flt_lopt.make_variant("normalized"))
  theta = lopt.init(jax.random.key(0))
  exponents = theta["step"]["exponents"].at[1, 1].set(rho)
  theta["step"] |= {"exponents": exponents}
  tx = lopt.transform(theta)
  params = {"w": jnp.full((6, 7), 0.3)}
  state = tx.init(params)
  step = jax.jit(tx.update)
  for scale in before:
    _, state = step({"w": scale * spread}, state, params)
  return [rms(step({"w": x * spread}, state, params)[0]["w"]) for x in last]


@pytest.mark.parametrize("rho", [0.0, 0.5, 1.0])
def test_a_stale_memory_shortens_steps_by_one_minus_rho(rho):
  """From gradients of 1 to much smaller ones: steps shrink as they do."""
  spread = np.where(np.arange(42).reshape(6, 7) % 2, 1.0, -1.0)
  small, smaller, usual, less = lengths(
    rho, spread, [1.0] * 200, [1e-5, 1e-6, 1e-2, 1e-3]
  )
  assert smaller / small == pytest.approx(0.1 ** (1 - rho), rel=1e-3)
  assert less / usual == pytest.approx(1.0, rel=0.02)


def test_gradients_that_come_and_go_leave_steps_and_their_gradient_finite():
  lopt = flt_lopt.LearnedOptimizer(flt_lopt.make_variant("normalized"))
  theta = lopt.init(jax.random.key(0))
  params = {"w": jnp.full((3, 4), 0.3)}
  scales = jnp.asarray([1.0, 0.0, 0.0, 1e-30, 1e-38, 1e30, 1.0, 0.0, 1e-6])
  spread = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)

  @jax.jit
  @jax.value_and_grad
  def moved(theta):
    tx = lopt.transform(theta)

    def step(state, scale):
      updates, state = tx.update({"w": scale * spread}, state, params)
      return state, jnp.sum(updates["w"] ** 2)

    return jnp.sum(jax.lax.scan(step, tx.init(params), scales)[1])

  value, gradient = moved(theta)
  assert 0 < value < 1
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(gradient))


@pytest.mark.parametrize("name", flt_lopt.list_pretrained())
def test_shipped_weights_leave_unused_parameters_alone(name):
  tx = flt_lopt.flt(weights=name)
  params = {"w": jnp.full((4, 5), 0.3), "b": jnp.full(3, 0.3)}
  zeros = jax.tree.map(jnp.zeros_like, params)

  @jax.jit
  def run(params):
    def step(carry, _):
      updates, state = tx.update(zeros, carry[1], carry[0])
      return (jax.tree.map(jnp.add, carry[0], updates), state), None

    return jax.lax.scan(step, (params, tx.init(params)), length=1000)[0][0]

  found = run(params)
  for name, x in found.items():
    assert jnp.all((x > 0.0) & (x <= params[name]))


def test_vectors_and_empty_tensors_have_no_fan_in_to_follow():
  for name in ("elementwise", "normalized", "orthogonal"):
    shapes = [(), (5,), (0, 3), (2, 0)]
    found = geometry.nominal(name, [TensorInfo(shape) for shape in shapes])
    assert all(np.all(np.isfinite(x)) for x in found)
    np.testing.assert_array_equal(found.log_length, 0.0)
    np.testing.assert_array_equal(found.rho, 1.0)
