"""Every registered variant of the optimizer, as the tests use it.

To register a variant is to be tested: the tests of the optimizer run over
`NAMES`. Their networks are narrow, since compiling is what costs, and their
meta-parameters are moved away from the neutral ones, so that every part of
the optimizer is at work.

Main names: `NAMES`, `every_variant`, `few_variants`, `make`, `theta`, `run`,
`raw_updates`.
"""

import dataclasses
import functools

import jax
import numpy as np
import optax
import pytest
import slow_cases
from jax.flatten_util import ravel_pytree

import flt_lopt
from flt_lopt import attention
from flt_lopt.variants import list_variants, make_variant

NAMES = tuple(list_variants())
#: Options that no variant has by name: (variant, changes).
OPTIONS = {
  "bfloat16": ("flt_damped", {"storage": "bfloat16"}),
  "limited": ("linear", {"gradient_limit": 1.5}),
  **{
    f"controller_{encoding}": ("flt_damped", {"controller": encoding})
    for encoding in attention.list_encodings(form="recurrent")
    if f"controller_{encoding}" not in NAMES and encoding != "flt"
  },
}
DEFAULT = "flt_damped"
NARROW = {
  "hidden_units": 2,
  "controller_heads": 1,
  "controller_width": 4,
  "controller_features": 4,
}
#: Vectors, stacked matrices, scalars, matrices: one tensor of each kind.
SHAPES = {"b": (6,), "k": (2, 3, 4), "s": (), "w": (4, 6)}
STEPS = 20

#: A test that costs a second per variant, and one that costs more: then the
#: other variants wait for the slow tests, as options always do.
every_variant = pytest.mark.parametrize(
  "name",
  [*NAMES, *(pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS)],
)
few_variants = slow_cases.few_of("name", NAMES, DEFAULT)


@functools.cache
def config(name, **changes):
  """Returns the variant's configuration with narrow networks."""
  name, options = OPTIONS.get(name, (name, {}))
  narrow = {"epsilon_mode": "relative"} | NARROW | options | changes
  return dataclasses.replace(make_variant(name), **narrow)


def family(name, **changes):
  """Returns the variant's `LearnedOptimizer`."""
  return flt_lopt.LearnedOptimizer(config(name, **changes))


@functools.cache
def theta(name, *, noise=0.05):
  """Returns meta-parameters with normal noise of the given scale."""
  neutral = family(name).init(jax.random.key(0))
  flat, unravel = ravel_pytree(neutral)
  rng = np.random.default_rng(1)
  shift = noise * rng.normal(size=flat.shape).astype(np.float32)
  return jax.tree.map(np.asarray, unravel(flat + shift))


@functools.cache
def make(name, *, noise=0.05, **options):
  """Returns the variant as a gradient transformation."""
  options = {"num_steps": STEPS} | options
  return family(name).transform(theta(name, noise=noise), **options)


def parameters(shapes=SHAPES, seed=0, dtype=np.float32):
  """Returns normal parameters, of scale 0.3."""
  rng = np.random.default_rng(seed)
  return {
    k: np.asarray(0.3 * rng.normal(size=s), dtype) for k, s in shapes.items()
  }


def stream(shapes=SHAPES, steps=STEPS, seed=1, dtype=np.float32):
  """Returns gradients of many steps, whose scale wanders over two decades."""
  rng = np.random.default_rng(seed)
  scale = 10.0 ** rng.uniform(-2, 0, size=steps)
  return {
    k: np.asarray(
      rng.normal(size=(steps, *s)) * scale.reshape(steps, *[1] * len(s)), dtype
    )
    for k, s in shapes.items()
  }


@functools.cache
def run(name, **options):
  """Returns a compiled function (gradients, params) -> updates of all steps."""

  tx = make(name, **options)

  @jax.jit
  def updates_of(gradients, params):
    def step(carry, gradient):
      params, state = carry
      updates, state = tx.update(gradient, state, params)
      return (optax.apply_updates(params, updates), state), updates

    return jax.lax.scan(step, (params, tx.init(params)), gradients)[1]

  return updates_of


def raw_updates(tx, gradients, params):
  """Returns updates of all steps, of parameters that don't move."""

  @jax.jit
  def run(gradients, params):  # As constants they would be compiled too.
    def step(state, gradient):
      updates, state = tx.update(gradient, state, params)
      return state, updates

    return jax.lax.scan(step, tx.init(params), gradients)[1]

  return run(gradients, params)


def largest(tree):
  """Returns the largest size of a number in the tree."""
  return max(float(np.max(np.abs(x))) for x in jax.tree.leaves(tree))


def relative_difference(a, b):
  """Returns the largest over the leaves of |a - b| / |b|, in the 2-norm."""
  ratios = jax.tree.map(
    lambda x, y: (
      np.linalg.norm(np.ravel(np.float64(x) - np.float64(y)))
      / max(np.linalg.norm(np.ravel(np.float64(y))), 1e-300)
    ),
    a,
    b,
  )
  return max(jax.tree.leaves(ratios))
