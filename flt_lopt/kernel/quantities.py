"""What the parts of a step hand to each other.

Main names: `TensorState`, `Sums`, `TensorScalars`, `Shared`, `Gains`,
`Products`, `StepScalars`.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flt_lopt import controller as controller_lib
from flt_lopt import direction, tokens
from flt_lopt.config import OptimizerConfig


class TensorState(NamedTuple):
  """What the optimizer keeps per tensor; every leaf is [tensors, ...].

  Attributes:
    mass: normaliser Z of each mode, the second moment's last.
    exponent: gradients in the memory are divided by two to this power.
    stats: statistics of the step before.
    controller: the controller's state.
  """

  mass: Float[Array, "tensors modes"]
  exponent: Int[Array, "tensors"]
  stats: tokens.Statistics
  controller: Any


class Sums(NamedTuple):
  """Sums of |g| and of p squared, which `before` needs."""

  absolute: Float[Array, "tensors"]
  parameter: Float[Array, "tensors"]


class TensorScalars(NamedTuple):
  """Scalars of one tensor; the memory's entries are per float or mode."""

  decay: tuple[Any, ...]
  write: tuple[Any, ...]
  inverse_mass: tuple[Any, ...]
  ahead: Any
  epsilon: Any
  inverse_scale: Any
  inverse_unit: Any
  inverse_parameter: Any
  is_matrix: Any
  finite: Any


class Shared(NamedTuple):
  """What all tensors share in one step.

  Attributes:
    memory: what the memory asks for.
    read: weights of the readings, none without a learned combination.
    caution: by how much entries against the gradient are shortened.
    network: the one per parameter, if there is one.
    count: number of the step.
  """

  memory: Any
  read: tuple[Any, ...]
  caution: Any
  network: direction.Weights | None
  count: Int[Array, ""]  # type: ignore[assignment]


class Gains(NamedTuple):
  """What the step needs once the direction is known; [tensors] each.

  Attributes:
    length: of a step, before what the direction's RMS does to it.
    decay: factor of the parameters.
    power: of the direction's RMS, rho - 1.
    size: numbers of parameters.
    unit: that of the memory, the tensor's root mean second moment.
    gradient: mean absolute gradient over the unit, at most 1.
    finite: whether the gradient is.
  """

  length: Any
  decay: Any
  power: Any
  size: Any
  unit: Any
  gradient: Any
  finite: Any


class Products(NamedTuple):
  """Sums over the direction d that `after` needs: d d, and d times n."""

  direction: Any
  along: Any


class StepScalars(NamedTuple):
  """Factors of one tensor for `apply_step`."""

  factor: Any
  trusted: Any
  decay: Any


def init_tensors(
  config: OptimizerConfig, num_tensors: int, dtype=jnp.float32
) -> TensorState:
  """Returns the per-tensor state before the first step."""
  modes = config.make_memory().num_modes + 1
  return TensorState(
    mass=jnp.zeros((num_tensors, modes), dtype),
    exponent=jnp.zeros(num_tensors, jnp.int32),
    stats=tokens.init_statistics(num_tensors, dtype),
    controller=controller_lib.init_state(config, num_tensors, dtype),
  )
