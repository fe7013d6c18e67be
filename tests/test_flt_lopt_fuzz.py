"""No gradient makes the optimizer crash, or write what is not finite.

A case is three steps on one tree with one draw of parameters and gradients.
Trees have tensors of 0 to 5 axes, of size zero too, in three dtypes, and
missing ones; gradients are normal, zero, constant, one-hot, or not finite, at
scales from 1e-30 to 1e30 that change from step to step. All draws of a tree
are one compiled program. `slow` runs 50 trees of 200 draws.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimizer_variants as variants
import pytest
from optimizer_variants import few_variants

STEPS = 3
DRAWS = 200
DTYPES = (np.float32, np.float16, jnp.dtype(jnp.bfloat16).type)
KINDS = ("normal", "zero", "constant", "one-hot", "broken element", "broken")


class Case(NamedTuple):
  """All draws of one tensor.

  Attributes:
    kinds: indices into `KINDS`, [draws, steps].
    gradient: [draws, steps, *shape].
    parameter: [draws, *shape].
  """

  kinds: np.ndarray
  gradient: np.ndarray
  parameter: np.ndarray


def random_tree(rng):
  """Returns a tree of `jax.ShapeDtypeStruct`, some leaves missing."""

  def leaf(k):
    if k and rng.random() < 0.15:
      return None
    axes = int(rng.integers(0, 6))
    shape = tuple(int(n) for n in rng.integers(1, 5 if axes < 4 else 4, axes))
    if axes and rng.random() < 0.05:
      shape = (0, *shape[1:])
    return jax.ShapeDtypeStruct(shape, DTYPES[rng.integers(len(DTYPES))])

  leaves = [leaf(k) for k in range(rng.integers(1, 4))]
  if rng.random() < 0.5:
    return {"layers": leaves, "nothing": {}}
  return (leaves[0], {"rest": tuple(leaves[1:])})


def draw(rng, shape, dtype, draws):
  """Returns the draws of one tensor."""
  size = int(np.prod(shape))
  kinds = rng.choice(
    len(KINDS), (draws, STEPS), p=[0.4, 0.1, 0.15, 0.15, 0.15, 0.05]
  )
  exponents = rng.uniform(-30, 30, (draws, STEPS))
  # Half of the runs keep their scale.
  exponents = np.where(
    rng.random((draws, 1)) < 0.5, exponents[:, :1], exponents
  )
  if dtype == np.float16:
    exponents = exponents / 8
  flat = rng.normal(size=(draws, STEPS, size))
  flat = np.where((kinds == 1)[..., None], 0.0, flat)
  flat = np.where((kinds == 2)[..., None], 1.0, flat)
  if size:
    where = np.arange(size) == rng.integers(size, size=(draws, STEPS, 1))
    flat = np.where((kinds == 3)[..., None], where, flat)
  flat = flat * 10.0 ** exponents[..., None]
  if size:
    bad = rng.choice([np.nan, np.inf, -np.inf], (draws, STEPS, 1))
    flat = np.where((kinds == 4)[..., None] & where, bad, flat)
    flat = np.where((kinds == 5)[..., None], bad, flat)
  scale = 10.0 ** rng.uniform(-3, 3, (draws, 1))
  if dtype != np.float16:
    extreme = rng.random((draws, 1)) < 0.1
    scale = np.where(extreme, 10.0 ** rng.uniform(-30, 30, (draws, 1)), scale)
  scale = np.where(rng.random((draws, 1)) < 0.1, 0.0, scale)
  parameter = rng.normal(size=(draws, size)) * scale
  return Case(
    kinds,
    flat.reshape(draws, STEPS, *shape).astype(dtype),
    parameter.reshape(draws, *shape).astype(dtype),
  )


def run(name, gradients, params):
  """Returns (updates, finite): updates, and whether the state is finite."""
  tx = variants.make(name)

  def one(gradients, params):
    def step(carry, gradient):
      params, state = carry
      updates, state = tx.update(gradient, state, params)
      floats = [
        x
        for x in jax.tree.leaves(state)
        if jnp.issubdtype(x.dtype, jnp.floating)
      ]
      finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in floats]))
      return (optax.apply_updates(params, updates), state), (updates, finite)

    return jax.lax.scan(step, (params, tx.init(params)), gradients)[1]

  return jax.jit(jax.vmap(one))(gradients, params)


def check(seed, case, updates):
  """Asserts what holds for one tensor."""
  assert updates.dtype == case.parameter.dtype, seed
  gradient, updates = (
    np.asarray(x, np.float64).reshape(*x.shape[:2], -1)
    for x in (case.gradient, updates)
  )
  parameter = np.float64(case.parameter).reshape(len(gradient), 1, -1)

  def holds(condition, what):
    failures = np.argwhere(~condition)
    assert not len(failures), (
      f"tree {seed}, shape {case.parameter.shape[1:]}, {case.parameter.dtype}, "
      f"{len(failures)} draws are {what}, first draw and step {failures[0]}"
    )

  sound = np.all(np.isfinite(gradient), axis=-1)
  still = np.all(updates == 0, axis=-1)
  holds(np.all(np.isfinite(updates), axis=-1), "not finite")
  holds(sound | still, "not skipped")
  # A first gradient that is not zero moves its tensor.
  zero = np.all(gradient == 0, axis=-1)
  holds((~still | zero | ~sound)[:, 0], "not moved")
  # And no tensor moves far in one step, at a step size of 1e-3.
  limit = 0.1 + 0.01 * np.max(np.abs(parameter), axis=-1, initial=0)
  holds(np.max(np.abs(updates), axis=-1, initial=0) <= limit, "far off")


def fuzz(name, seeds, draws):
  """Checks all draws of one tree per seed; returns the number of cases."""
  for seed in seeds:
    rng = np.random.default_rng(seed)
    leaves, structure = jax.tree.flatten(random_tree(rng))
    cases = [draw(rng, leaf.shape, leaf.dtype, draws) for leaf in leaves]
    updates, finite = run(
      name,
      jax.tree.unflatten(structure, [case.gradient for case in cases]),
      jax.tree.unflatten(structure, [case.parameter for case in cases]),
    )
    assert jax.tree.structure(updates) == structure
    assert np.all(finite), f"tree {seed}: the state is not finite"
    for case, got in zip(cases, jax.tree.leaves(updates), strict=True):
      check(seed, case, np.asarray(got))
  return len(seeds) * draws


def test_a_thousand_cases_of_the_default():
  assert fuzz(variants.DEFAULT, range(5), DRAWS) == 1000


@pytest.mark.slow
def test_ten_thousand_cases_of_the_default():
  assert fuzz(variants.DEFAULT, range(100, 150), DRAWS) == 10_000


@few_variants
def test_four_hundred_cases_of_every_variant(name):
  assert fuzz(name, range(10, 12), DRAWS) == 400


@pytest.mark.slow
def test_a_thousand_cases_of_memory_in_bfloat16():
  assert fuzz("bfloat16", range(20, 25), DRAWS) == 1000
