"""Steps by how deep a model is and how long a run: the learned exponents."""

import jax
import numpy as np
import optimizer_variants as variants
import pytest

import flt_lopt
from flt_lopt import geometry
from flt_lopt.layout import TensorInfo

LOPT = flt_lopt.LearnedOptimizer(flt_lopt.make_variant("normalized"))


def rates(exponents, params, num_steps):
  """Sizes of a first step, by tensor, over those without exponents."""

  def first(step):
    theta = LOPT.init(jax.random.key(0))
    theta["step"] |= step
    tx = LOPT.transform(theta, num_steps=num_steps)
    rng = np.random.default_rng(0)
    grads = jax.tree.map(
      lambda p: np.float32(rng.normal(size=(1, *p.shape))), params
    )
    return variants.raw_updates(tx, grads, params)

  with_them = first({k: np.float32(v) for k, v in exponents.items()})
  return {
    name: float(np.linalg.norm(moved)) / (float(np.linalg.norm(without)) or 1.0)
    for (name, moved), without in zip(
      with_them.items(), first({}).values(), strict=True
    )
  }


def model(*shapes):
  return {
    f"{k}": np.full(shape, 0.3, np.float32) for k, shape in enumerate(shapes)
  }


@pytest.mark.parametrize(
  "shapes, depth",
  [
    ([(3, 4), (5,)], 1),
    ([(3, 4)] * 3 + [(5,)], 3),
    ([(3, 4)] * 5, 5),
    ([(5, 2, 3), (2, 2, 3, 4)], 2),  # Attention's heads, and a kernel.
    ([(4, 5, 6), (3, 2)], 5),  # A stack of four.
    ([(3, 4)] * 12, geometry.MAX_DEPTH),
    ([(5,), ()], 1),
    ([(0, 4), (3, 4)], 1),
  ],
)
def test_steps_follow_the_number_of_matrices(shapes, depth):
  params = model(*shapes)
  assert geometry.depth([TensorInfo(shape) for shape in shapes]) == depth
  found = rates({"depth_exponent": [0.5, 0.8]}, params, 1000)
  for name, p in params.items():
    if not p.size:
      continue
    exponent = 0.8 if geometry.is_matrix(TensorInfo(p.shape)) else 0.5
    want = (depth / 3) ** -exponent
    assert found[name] == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize(
  "num_steps, counted",
  [(20, 100), (100, 100), (500, 500), (3000, 3000), (10**6, 20_000)],
)
def test_steps_follow_the_length_of_the_run(num_steps, counted):
  params = model((3, 4), (5,))
  found = rates({"length_exponent": [0.3, 0.4]}, params, num_steps)
  assert found["0"] == pytest.approx((counted / 1000) ** -0.4, rel=1e-5)
  assert found["1"] == pytest.approx((counted / 1000) ** -0.3, rel=1e-5)


def test_a_run_of_unknown_length_counts_as_a_usual_one():
  found = rates({"length_exponent": [0.5, 0.5]}, model((3, 4), (5,)), None)
  assert found == {"0": 1.0, "1": 1.0}


def test_exponents_are_bounded():
  params = model(*[(3, 4)] * 6)
  found = rates({"depth_exponent": [7.0, 7.0]}, params, None)
  assert found["0"] == pytest.approx(0.5, rel=1e-5)
  found = rates({"depth_exponent": [-7.0, -7.0]}, params, None)
  assert found["0"] == pytest.approx(2.0, rel=1e-5)
  found = rates({"length_exponent": [7.0, 7.0]}, params, 4000)
  assert found["0"] == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize(
  "caution, kept", [(0.7, 0.3), (0.99, 0.01), (9.0, 0.01)]
)
def test_caution_shortens_what_is_against_the_gradient(caution, kept):
  lopt = flt_lopt.LearnedOptimizer(flt_lopt.make_variant("flt_damped"))
  params, grads = variants.parameters(), variants.stream(steps=9)

  def last(caution):
    theta = lopt.init(jax.random.key(0))
    theta["step"] |= {"caution": np.float32(caution)}
    tx = lopt.transform(theta)
    return jax.tree.map(
      lambda u: np.asarray(u[-1]), variants.raw_updates(tx, grads, params)
    )

  usual, found = last(0.0), last(caution)
  some = 0
  for name, u in usual.items():
    against = -u * np.asarray(grads[name][-1]) < 0
    some += against.sum()
    np.testing.assert_allclose(
      found[name], np.where(against, kept * u, u), rtol=1e-5, atol=1e-12
    )
  assert some > 20
