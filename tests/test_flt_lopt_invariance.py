"""What must not matter does not: loss scale, order of elements, names.

All of it holds for weights away from their initial values, with the epsilon
relative to the tensor, over runs whose parameters follow the updates.
"""

import jax
import numpy as np
import optax
import optimizer_variants as variants
import pytest
from optimizer_variants import SHAPES, every_variant, few_variants


@pytest.fixture(scope="module")
def plain():
  """Returns a function name -> updates of the unchanged run."""
  found = {}

  def get(name):
    if name not in found:
      run = variants.run(name)
      found[name] = run(variants.stream(), variants.parameters())
    return found[name]

  return get


def scaled(factor):
  return optax.tree.scale(np.float32(factor), variants.stream())


@few_variants
@pytest.mark.parametrize("exponent", [-24, 12, -100, 100])
def test_a_power_of_two_in_the_loss_changes_no_bit(name, exponent, plain):
  other = variants.run(name)(scaled(2.0**exponent), variants.parameters())
  jax.tree.map(np.testing.assert_array_equal, other, plain(name))


@few_variants
@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_scale_of_the_loss_drops_out(name, factor, plain):
  other = variants.run(name)(scaled(factor), variants.parameters())
  for key, want in plain(name).items():
    sizes = [np.linalg.norm(np.ravel(x)) for x in want]
    errors = [np.linalg.norm(np.ravel(x)) for x in other[key] - want]
    # A scalar's update passes zero: a tensor's own size over the run counts.
    assert max(errors) < 1e-5 * np.sqrt(np.mean(np.square(sizes))), key


def along_axes(rng):
  """Returns a permutation of each axis by itself, for every tensor."""
  orders = {
    k: [rng.permutation(size) for size in shape] for k, shape in SHAPES.items()
  }

  def permute(tree, leading):
    return {
      k: x[(slice(None),) * leading + np.ix_(*orders[k])] if orders[k] else x
      for k, x in tree.items()
    }

  return permute


def all_elements(rng):
  """Returns one permutation of all elements of a tensor, for every tensor."""
  orders = {
    k: rng.permutation(int(np.prod(shape))) for k, shape in SHAPES.items()
  }

  def permute(tree, leading):
    return {
      k: x.reshape(*x.shape[:leading], -1)[..., orders[k]].reshape(x.shape)
      for k, x in tree.items()
    }

  return permute


def is_element_wise(config):
  """Tells whether rows and columns mean nothing to the variant."""
  whole = getattr(config, "second_moment", "whole") == "whole"
  return whole and getattr(config, "geometry", "") != "orthogonal"


@few_variants
def test_the_order_of_elements_does_not_matter(name, plain):
  element_wise = is_element_wise(variants.config(name))
  kinds = (along_axes, all_elements) if element_wise else (along_axes,)
  want = jax.tree.map(np.asarray, plain(name))
  for kind in kinds:
    permute = kind(np.random.default_rng(2))
    got = variants.run(name)(
      permute(variants.stream(), 1), permute(variants.parameters(), 0)
    )
    moved = permute(want, 1)
    assert any(np.any(moved[k] != want[k]) for k in want)
    assert variants.relative_difference(got, moved) < 2e-5


@every_variant
def test_names_do_not_matter(name):
  tx = variants.make(name)
  params, grads = (
    variants.parameters(),
    jax.tree.map(lambda x: x[0], variants.stream()),
  )
  renamed = {"b": "first", "k": "more", "s": "scale", "w": "zero"}
  assert sorted(renamed.values()) == list(renamed.values())

  def rename(tree):
    return {"layer": {renamed[k]: x for k, x in tree.items()}}

  other = tx.init(rename(params))
  state = tx.init(params)
  for _ in range(2):
    want, state = tx.update(grads, state, params)
    got, other = tx.update(rename(grads), other, rename(params))
    jax.tree.map(np.testing.assert_array_equal, got, rename(want))
