"""The exported transformation and the flat form agree on trees of any size.

Leaves of many shapes, with 1 and 64 and 65 elements among them, where the
rows of the flat layout begin and end.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optimizer_variants as variants
import pytest
from optimizer_variants import few_variants

from flt_lopt import flat, memory
from flt_lopt.layout import FlatLayout, TensorInfo, infos

STEPS = 3
SHAPES = [
  (),
  (1,),
  (64,),
  (65,),
  (3, 5),
  (8, 8),
  (2, 3, 4),
  (7,),
  (5, 1),
  (70,),
]

#: One of each role.
NAMES = ("w", "weight", "embedding")


def agree(name, count):
  """Asserts that both layouts make the same updates of `count` tensors."""
  shapes = [SHAPES[i % len(SHAPES)] for i in range(count)]
  rng = np.random.default_rng(0)

  def normal(scale):
    return [
      {NAMES[i % 3]: np.float32(scale * rng.normal(size=s))}
      for i, s in enumerate(shapes)
    ]

  params = normal(0.3)
  tx, theta = variants.make(name), variants.theta(name)
  layout = FlatLayout(infos(params))

  @jax.jit
  def flat_update(gradient, state, params):
    return flat.update(
      variants.config(name),
      theta,
      layout,
      gradient,
      state,
      params,
      num_steps=jnp.float32(variants.STEPS),
    )

  state, flat_state = tx.init(params), flat.init(variants.config(name), layout)
  update = jax.jit(tx.update)
  packed = layout.flatten(jax.tree.leaves(params))
  for step in range(STEPS):
    gradient = normal(10.0 ** (step - 1))
    if step == 1:
      jax.tree.leaves(gradient)[3][5] = (
        np.nan
      )  # Of one tensor; no other must know.
    want, state = update(gradient, state, params)
    got, flat_state = flat_update(
      layout.flatten(jax.tree.leaves(gradient)), flat_state, packed
    )
    want = jax.tree.leaves(want)
    for one, other in zip(layout.unflatten(got), want, strict=True):
      np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-8)
    assert np.all(want[3] == 0) == (step == 1)
    assert np.all(np.asarray(got)[np.asarray(layout.mask) == 0] == 0)


@few_variants
def test_layouts_agree_on_ten_tensors(name):
  agree(name, 10)


def test_layouts_round_to_bfloat16_alike():
  kept = memory.make_storage("bfloat16")
  layout = FlatLayout([TensorInfo(s) for s in SHAPES])
  rng = np.random.default_rng(0)
  values = [
    [jnp.asarray(rng.normal(size=s), jnp.float32) for s in SHAPES]
    for _ in range(3)
  ]
  count = jnp.int32(5)
  packed = [layout.flatten(leaves) for leaves in values]
  flat_kept = kept.keep(packed, count, 1, layout.places)
  columns = [layout.unflatten(array) for array in flat_kept]
  for i, leaves in enumerate(zip(*values, strict=True)):
    for number, one in enumerate(kept.keep(leaves, count, 1)):
      np.testing.assert_array_equal(columns[number][i], one)


def test_layouts_agree_on_memory_in_bfloat16():
  agree("bfloat16", 10)


def test_layouts_agree_with_a_limit():
  agree("limited", 10)


@pytest.mark.slow
def test_layouts_agree_on_a_hundred_tensors():
  agree(variants.DEFAULT, 100)
