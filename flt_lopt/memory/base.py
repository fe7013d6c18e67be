"""What every memory of the gradient offers.

Per tensor, a memory has modes, each with a decay, a write strength and the
mass Z that its reading is divided by,

    Z_k <- lambda_k Z_k + kappa_k,

which is positive whatever the gates do, and equals Adam's bias correction.
Per parameter, it has `num_floats` numbers and gives `num_reads` readings.

Main names: `Memory`, `Coefficients`.
"""

import abc
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from flt_lopt import clock as clock_lib

GATE_RANGE = 2.0


class Coefficients(NamedTuple):
  """What `Memory.advance` needs besides the parameter's own numbers.

  Attributes:
    decay: for each float, |lambda| of its mode times the change of the
      gradient's scale; entries are scalars or broadcast against the tensor.
    write: kappa of each mode, likewise.
    inverse_mass: 1 / Z of each mode, likewise.
    inverse_unit: 1 over the size of the tensor's gradients.
    shared: scalars that all tensors share, from `Memory.shared`.
  """

  decay: tuple[Float[Array, "..."], ...]
  write: tuple[Float[Array, "..."], ...]
  inverse_mass: tuple[Float[Array, "..."], ...]
  inverse_unit: Float[Array, "..."]
  shared: Any


class Memory(abc.ABC):
  """A memory of the gradient; see the module's docstring."""

  #: Whether the controller's gates reach the modes.
  gated: bool = True

  @property
  @abc.abstractmethod
  def mode_of(self) -> tuple[int, ...]:
    """For each float of a parameter, the mode it belongs to."""

  @property
  def powers(self) -> tuple[int, ...]:
    """For each float, the power of the gradient's scale that it carries."""
    return (1,) * self.num_floats

  @property
  def num_floats(self) -> int:
    """Floats of state per parameter."""
    return len(self.mode_of)

  @property
  @abc.abstractmethod
  def num_modes(self) -> int:
    """Modes, each with its decay, write strength and mass."""

  @property
  @abc.abstractmethod
  def num_reads(self) -> int:
    """Readings per parameter, the current gradient not counted."""

  @property
  @abc.abstractmethod
  def nominal(self) -> int:
    """The reading that is the nominal direction.

    The first, 0, which then is the first mode's, held in the first float alone;
    or -1, the gradient. `OptimizerConfig` refuses others.
    """

  @abc.abstractmethod
  def init(self, key) -> dict[str, Array]:
    """Returns the meta-parameters, at which the gates are neutral."""

  @abc.abstractmethod
  def decays(
    self,
    theta,
    gate: Float[Array, "tensors modes"],
    clock: clock_lib.Clock,
  ) -> Float[Array, "tensors modes"]:
    """Returns |lambda| of this step; `gate` multiplies the rates."""

  def shared(self, theta, clock: clock_lib.Clock) -> Any:
    """Returns this step's scalars that all tensors share."""
    del theta, clock
    return ()

  @abc.abstractmethod
  def advance(self, modes, gradient, c: Coefficients):
    """Writes a gradient and reads; element-wise.

    Args:
      modes: `num_floats` arrays of the tensor's shape.
      gradient: array of the same shape.
      c: the coefficients of this step.

    Returns:
      (modes, reads): the new modes, and `num_reads` readings in units of
      the gradient.
    """

  @abc.abstractmethod
  def kernels(
    self, theta, lags: Float[Array, "lags"]
  ) -> dict[str, Float[Array, "lags"]]:
    """Returns the weight of the gradient of `lags` steps ago, by mode."""

  @abc.abstractmethod
  def time_scales(self, theta) -> dict[str, Float[Array, ""]]:
    """Returns learned time constants and frequencies by name."""


def gates(raw: Float[Array, "..."]) -> Float[Array, "..."]:
  """Returns a positive factor within exp(+-2); 0 is neutral."""
  return jnp.exp(GATE_RANGE * jnp.tanh(raw))
