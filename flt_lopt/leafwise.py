"""The optimizer on one array per tensor: the exported form.

Every state leaf has its parameter's shape and sharding. Tensors are moved one
after another, so that the arrays in between are held for one at a time.
Tensors of equal shape share their trace, and mostly their compiled programs.

Main names: `Leaf`, `Moved`, `step`; the counterpart is `flt_lopt.flat`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flt_lopt import geometry, kernel
from flt_lopt.layout import TensorInfo


class Leaf(NamedTuple):
  """What one tensor brings to a step."""

  gradient: Array
  parameter: Array
  modes: tuple[Array, ...]
  second: tuple[Array, ...]


class Moved(NamedTuple):
  """What one tensor takes from a step; the sums are scalars."""

  update: Array
  modes: tuple[Array, ...]
  second: tuple[Array, ...]
  sums: kernel.Products
  mean_second: Array
  step: kernel.StepScalars


class _Packed(NamedTuple):
  """The scalars of one tensor as one vector, and how to unpack it."""

  row: Float[Array, "scalars"]

  def unpack(self, like):
    """Returns the scalars in the structure and dtypes of `like`."""
    leaves, structure = jax.tree.flatten(like)
    return jax.tree.unflatten(
      structure,
      [self.row[k].astype(leaf.dtype) for k, leaf in enumerate(leaves)],
    )


# Tensors of one shape are traced once.
@functools.partial(jax.jit, static_argnums=0)
def _sums(dtype, gradient, parameter) -> kernel.Sums:
  gradient, parameter = gradient.astype(dtype), parameter.astype(dtype)
  return kernel.Sums(
    absolute=jnp.sum(jnp.abs(gradient)),
    parameter=jnp.sum(parameter * parameter),
  )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _move(
  config, role, like, before, packed: _Packed, shared, leaf: Leaf
) -> Moved:
  """Moves one tensor.

  Args:
    config: the optimizer.
    role: of the tensor, see `flt_lopt.roles`.
    like: tree of scalars like those that are packed.
    before: factor of the tensor before.
    packed: the tensor's `kernel.TensorScalars` and `kernel.Gains`.
    shared: the step's shared scalars.
    leaf: the tensor.
  """
  dtype = packed.row.dtype
  scalars, gains = packed.unpack(like)
  # A step's length is never infinite, so this changes nothing, but XLA can't
  # know: it would otherwise evaluate all tensors side by side and hold arrays
  # for each, which costs more in memory and page faults than it gains.
  scalars = scalars._replace(
    epsilon=jnp.where(before == jnp.inf, 2.0, 1.0) * scalars.epsilon
  )
  storage = config.make_storage()
  parameter = leaf.parameter.astype(dtype)
  raw = leaf.gradient.astype(dtype)
  gradient = kernel.scaled(scalars, raw)
  old = tuple(mode.astype(dtype) for mode in leaf.modes)
  modes, reads = kernel.advance(config, scalars, shared, old, gradient)
  past = tuple(x.astype(dtype) for x in leaf.second)
  second, v = kernel.advance_second(config, scalars, past, gradient)
  found = kernel.direct(config, scalars, shared, reads, v, gradient, parameter)
  sums = kernel.Products(
    direction=jnp.sum(found * found),
    along=kernel.total(
      (factor, jnp.sum(array * found))
      for factor, array in kernel.nominal_terms(config, scalars, modes, raw)
    ),
  )
  mean = jnp.sum(second[0]) / max(second[0].size, 1)
  # Computed again from the memory: kept, it would be one more array.
  again, moment = jax.lax.optimization_barrier((modes, second))
  clean = jnp.where(scalars.finite, raw, 0.0)
  nominal = kernel.total(kernel.nominal_terms(config, scalars, again, clean))
  v = config.make_second_moment().read(moment, scalars.inverse_mass[-1])
  fallback = kernel.fallback(config, scalars, nominal, v)
  is_matrix = geometry.is_matrix(TensorInfo(gradient.shape, role))
  if config.geometry == "orthogonal" and is_matrix:
    chosen = jnp.where(sums.along > 0, found, fallback)
    found = fallback = geometry.orthogonalize(chosen, config.epsilon, role)
    sums = sums._replace(direction=jnp.sum(found * found))
  step = kernel.after(gains, sums)
  update = kernel.apply_step(step, found, fallback, parameter)
  if config.make_second_moment().num_floats:
    second = storage.keep(second, shared.count, len(modes))
  return Moved(
    update=update.astype(leaf.parameter.dtype),
    modes=storage.keep(modes, shared.count, 0),
    second=second,
    sums=sums,
    mean_second=mean * scalars.inverse_mass[-1],
    step=step,
  )


def step(config, roles, theta, clock, decay, progress, tensors, leaves):
  """Moves all tensors.

  Args:
    config: the optimizer.
    roles: of all tensors, see `flt_lopt.roles`.
    theta: its meta-parameters.
    clock: of this step.
    decay: the user's weight decay of each tensor.
    progress: of the loss.
    tensors: `kernel.TensorState` of all.
    leaves: list of `Leaf`.

  Returns:
    A list of `Moved`, and the new `kernel.TensorState`.
  """
  if not leaves:
    return [], tensors
  dtype = clock.num_steps.dtype
  infos = tuple(
    TensorInfo(leaf.parameter.shape, role)
    for leaf, role in zip(leaves, roles, strict=True)
  )
  sums = _stack(
    [
      _sums(clock.num_steps.dtype, leaf.gradient, leaf.parameter)
      for leaf in leaves
    ]
  )
  tensors, scalars, shared, gains = kernel.before(
    config, theta, tensors, sums, infos, clock, progress, decay
  )
  like = jax.tree.map(lambda x: x[0], (scalars, gains))
  packed, shared = _settle((scalars, gains), shared, clock)
  moved: list[Moved] = []
  for mine, leaf, info in zip(packed, leaves, infos, strict=True):
    before = _wait_for(moved[-1].step.factor) if moved else jnp.zeros([], dtype)
    moved.append(_move(config, info.role, like, before, mine, shared, leaf))
  step = _stack([m.step for m in moved])
  sums = _stack([m.sums for m in moved])
  mean = jnp.stack([m.mean_second for m in moved])
  stats = kernel.statistics(tensors.stats, gains, sums, mean, step)
  return moved, tensors._replace(stats=stats)


def _wait_for(factor):
  """Returns what makes a tensor wait for the one before, on a CPU alone."""
  return jax.lax.platform_dependent(
    factor, cpu=lambda x: x, default=jnp.zeros_like
  )


def _settle(scalars, shared, clock):
  """Has scalars computed once, and not again in each tensor's programs.

  XLA's CPU compiler would fuse their arithmetic, for each tensor another,
  into everything that is done with a tensor. The result of a branch is one
  that it can't fuse: so they take one, always the same way. With a vector of
  scalars per tensor the programs of equal tensors are equal, and are compiled
  once.

  Args:
    scalars: tree of [tensors] arrays.
    shared: tree of arrays.
    clock: of this step.

  Returns:
    A list of `_Packed`, and `shared`.
  """
  leaves = jax.tree.leaves(scalars)
  dtype = clock.num_steps.dtype
  packed = jnp.stack([leaf.astype(dtype) for leaf in leaves], axis=1)

  def rows(packed, shared):
    return [packed[i] for i in range(len(packed))], shared

  def branch(packed, shared):
    return jax.lax.cond(
      clock.count >= 0,
      rows,
      lambda *x: jax.tree.map(jnp.zeros_like, rows(*x)),
      packed,
      shared,
    )

  split, shared = jax.lax.platform_dependent(
    packed, shared, cpu=branch, default=rows
  )
  return [_Packed(row) for row in split], shared


def _stack(trees):
  return jax.tree.map(lambda *xs: jnp.stack(xs), *trees)
