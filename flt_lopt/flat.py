"""The optimizer on one flat array: the form that meta-training runs."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flt_lopt import clock as clock_lib
from flt_lopt import kernel, memory
from flt_lopt.config import OptimizerConfig
from flt_lopt.layout import FlatLayout


class FlatState(NamedTuple):
  """State of a run; the counterpart of `flt_lopt.transform.FltState`."""

  count: Int[Array, ""]  # type: ignore[assignment]
  modes: tuple[Float[Array, "blocks lanes"], ...]
  tensors: kernel.TensorState


def init(config: OptimizerConfig, layout: FlatLayout) -> FlatState:
  """Returns the state before the first step."""
  spectrum = memory.make_spectrum(config.memory, config.memory_floats)
  floats = memory.num_floats(spectrum)
  return FlatState(
    count=jnp.zeros([], jnp.int32),
    modes=tuple(jnp.zeros(layout.shape, jnp.float32) for _ in range(floats)),
    tensors=kernel.init_tensors(config, len(layout.tensors)),
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
  """
  clock = clock_lib.Clock(state.count, num_steps)
  sum_square = layout.collect([gradient * gradient])
  tensors, scalars, shared, gains = kernel.before(
    config, theta, state.tensors, sum_square, layout.tensors, clock
  )
  (scalars,) = layout.expand(scalars)
  found = kernel.direct(
    config, scalars, shared, state.modes, gradient, params, layout.mask
  )
  sums = layout.collect([found.products])
  tensors, step = kernel.after(theta, tensors, gains, sums, layout.tensors)
  (step,) = layout.expand(step)
  updates = -kernel.apply_step(step, found, params)
  return updates, FlatState(state.count + 1, found.modes, tensors)
