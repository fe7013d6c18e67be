"""The optimizer on one flat array: the form that meta-training runs.

Main names: `FlatState`, `init`, `update`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from flt_lopt import clock as clock_lib
from flt_lopt import geometry, kernel
from flt_lopt import progress as progress_lib
from flt_lopt.config import OptimizerConfig
from flt_lopt.layout import FlatLayout


class FlatState(NamedTuple):
  """State of a run; the counterpart of `flt_lopt.transform.FltState`."""

  count: Int[Array, ""]  # type: ignore[assignment]
  modes: tuple[Float[Array, "blocks lanes"], ...]
  second: Any
  tensors: kernel.TensorState
  progress: progress_lib.Progress


def init(config: OptimizerConfig, layout: FlatLayout) -> FlatState:
  """Returns the state before the first step."""
  dtype = config.make_storage().dtype(jnp.float32)
  floats = config.make_memory().num_floats
  form = config.make_second_moment()
  zeros = jnp.zeros(layout.shape, jnp.float32)
  if form.num_floats:
    second = form.init(zeros, dtype)
  else:
    leaves = layout.unflatten(zeros)
    second = tuple(form.init(leaf, jnp.float32) for leaf in leaves)
  return FlatState(
    count=jnp.zeros([], jnp.int32),
    modes=tuple(jnp.zeros(layout.shape, dtype) for _ in range(floats)),
    second=second,
    tensors=kernel.init_tensors(config, len(layout.tensors)),
    progress=progress_lib.init(),
  )


def update(
  config: OptimizerConfig,
  theta,
  layout: FlatLayout,
  gradient: Float[Array, "blocks lanes"],
  state: FlatState,
  params: Float[Array, "blocks lanes"],
  *,
  num_steps: Float[Array, ""],
  value: Float[Array, ""] | None = None,
) -> tuple[Float[Array, "blocks lanes"], FlatState]:
  """Returns (updates, state), the updates to be added to the parameters.

  Args:
    config: the optimizer.
    theta: its meta-parameters.
    layout: how tensors lie in the flat arrays.
    gradient: flat gradient, zero at the padding.
    state: of the step before.
    params: flat parameters, zero at the padding.
    num_steps: length of the run, 0 where it is withheld.
    value: training loss of this step, None where it is withheld.
  """
  clock = clock_lib.Clock(state.count, num_steps)
  progress = progress_lib.observe(state.progress, value)
  sums = layout.collect(kernel.Sums(jnp.abs(gradient), params * params))
  tensors, per_tensor, shared, gains = kernel.before(
    config, theta, state.tensors, sums, layout.tensors, clock, progress
  )
  scalars = layout.expand(per_tensor)
  storage = config.make_storage()
  clean = jnp.where(scalars.finite, gradient, 0.0)
  gradient = kernel.scaled(scalars, gradient)
  old = tuple(mode.astype(jnp.float32) for mode in state.modes)
  modes, reads = kernel.advance(config, scalars, shared, old, gradient)
  second, v, mean = _second(
    config, layout, per_tensor, scalars, state, gradient
  )
  found = kernel.direct(
    config, scalars, shared, reads, v, gradient, params, layout.mask
  )
  nominal = kernel.total(kernel.nominal_terms(config, scalars, modes, clean))
  products = kernel.Products(found * found, nominal * found)
  sums, mean = layout.collect((products, mean))
  fallback = kernel.fallback(config, scalars, nominal, v)
  if config.geometry == "orthogonal":
    found = fallback = _orthogonal(
      layout,
      config.epsilon,
      layout.expand(sums.along) > 0,
      found,
      fallback,
    )
    sums = sums._replace(direction=layout.collect(found * found))
  step = kernel.after(gains, sums)
  mean = mean / gains.size * per_tensor.inverse_mass[-1]
  stats = kernel.statistics(state.tensors.stats, gains, sums, mean, step)
  updates = -kernel.apply_step(layout.expand(step), found, fallback, params)
  return updates, FlatState(
    count=optax.safe_increment(state.count),
    modes=storage.keep(modes, state.count, 0, layout.places),
    second=second,
    tensors=tensors._replace(stats=stats),
    progress=progress,
  )


def _second(config, layout, per_tensor, scalars, state: FlatState, gradient):
  """Returns (state, v, flat array whose sums are v's times the mass)."""
  if config.make_second_moment().num_floats:
    old = tuple(x.astype(jnp.float32) for x in state.second)
    second, v = kernel.advance_second(config, scalars, old, gradient)
    kept = config.make_storage().keep(
      second, state.count, len(state.modes), layout.places
    )
    return kept, v, second[0]
  new, read, means = [], [], []
  for i, leaf in enumerate(layout.unflatten(gradient)):
    row = jax.tree.map(lambda x, i=i: x[i], per_tensor)
    second, v = kernel.advance_second(config, row, state.second[i], leaf)
    new.append(second)
    read.append(v)
    means.append(v / row.inverse_mass[-1])
  return tuple(new), layout.flatten(read), layout.flatten(means)


def _orthogonal(layout, epsilon, trusted, found, fallback):
  chosen = jnp.where(trusted, found, fallback)
  return layout.flatten(
    [
      geometry.orthogonalize(leaf, epsilon, tensor.role)
      if geometry.is_matrix(tensor)
      else leaf
      for tensor, leaf in zip(
        layout.tensors, layout.unflatten(chosen), strict=True
      )
    ]
  )
