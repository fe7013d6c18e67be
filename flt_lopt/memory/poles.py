"""Poles: the modes of a spectrum, each one coordinate's damped exponential.

A mode is multiplied each step by

    lambda_t = exp(-alpha (r_t - r_{t-1}) + 2 pi i xi),

where r is one coordinate of the clock: the step t, log(1 + t), or t / T.
A real pole on the step is an exponential average with beta = exp(-alpha); at
xi = 1/2 it alternates in sign and sees oscillation at the edge of stability
for one float; other frequencies are complex and take two. On log(1 + t) a
mode weighs step j by (j / t)**alpha, a running mean that needs no horizon;
on t / T its time constant is the share 1 / alpha of the run.

Main names: `Pole`, `ema`, `parse_pole`, `rates`, `decays`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flt_lopt import clock as clock_lib
from flt_lopt.attention import registry

COORDINATES = ("step", "log", "horizon")
#: Bounds of alpha on the step, so that a mode neither stops nor explodes.
MIN_RATE, MAX_RATE = 1e-6, 3.0
# Meta-training perturbs all of theta with one scale. Poles need a smaller
# one: their raw parameters count in units of this.
LOG_RATE_UNIT = 0.1


class Pole(NamedTuple):
  """A mode at initialisation.

  Attributes:
    rate: alpha >= 0 per unit of the coordinate; 0 never forgets.
    frequency: xi in cycles per step, in [0, 1/2]. 0 and 1/2 are real modes
      of one float, anything else is complex and takes two.
    coordinate: "step", "log" or "horizon".
  """

  rate: float
  frequency: float = 0.0
  coordinate: str = "step"

  @property
  def is_complex(self) -> bool:
    return self.frequency not in (0.0, 0.5)

  @property
  def num_floats(self) -> int:
    return 2 if self.is_complex else 1

  @property
  def label(self) -> str:
    """Names the pole in a picture."""
    if self.coordinate == "step":
      name = f"beta {math.exp(-self.rate):g}"
    else:
      where = {"log": "log(1 + t)", "horizon": "t / T"}[self.coordinate]
      name = f"rate {self.rate:g} in {where}"
    return f"{name}, frequency {self.frequency:g}" if self.frequency else name


def ema(beta: float, frequency: float = 0.0) -> Pole:
  """Returns the pole of an exponential moving average."""
  return Pole(-math.log(beta), frequency)


def parse_pole(spec: Sequence) -> Pole:
  """Reads a pole of a configuration.

  Args:
    spec: `("step", beta)`, `("step", beta, frequency)`, `("log", alpha)` or
      `("horizon", alpha)`.

  Raises:
    ValueError: it is none of these, or out of range.
  """
  rule = (
    f"the pole {tuple(spec)!r} must be ('step', beta), ('step', beta, "
    "frequency), ('log', alpha) or ('horizon', alpha)"
  )
  if not 2 <= len(spec) <= 3 or not all(
    isinstance(x, int | float) for x in spec[1:]
  ):
    raise ValueError(f"{rule}.")
  registry.check_choice("a pole's coordinate", spec[0], COORDINATES)
  if spec[0] != "step":
    if len(spec) != 2 or not 0 <= spec[1] <= 100:
      raise ValueError(f"{rule}, alpha in [0, 100] and without frequency.")
    return Pole(float(spec[1]), 0.0, spec[0])
  frequency = float(spec[2]) if len(spec) == 3 else 0.0
  if not 0.05 <= spec[1] <= 1 or not 0 <= frequency <= 0.5:
    raise ValueError(f"{rule}, beta in [0.05, 1] and frequency in [0, 0.5].")
  return Pole(-math.log(spec[1]), frequency)


def rates(
  poles: Sequence[Pole], offsets: Float[Array, "modes"]
) -> Float[Array, "modes"]:
  """Returns alpha of every mode; an offset moves log(alpha).

  Args:
    poles: the modes.
    offsets: in units of `LOG_RATE_UNIT`.
  """
  start = np.asarray([pole.rate for pole in poles], np.float64)
  moved = start.astype(offsets.dtype) * jnp.exp(LOG_RATE_UNIT * offsets)
  return _bounded(poles, moved)


def decays(
  poles: Sequence[Pole],
  alpha: Float[Array, "tensors modes"],
  clock: clock_lib.Clock,
) -> Float[Array, "tensors modes"]:
  """Returns |lambda| of this step; 0 < |lambda| <= 1.

  Where T is not known, a pole on t / T counts in log(1 + t), the other
  coordinate that needs no unit.
  """
  t = clock.count.astype(alpha.dtype)
  moves = {
    "step": jnp.ones_like(t),
    "log": jnp.log1p(1.0 / jnp.maximum(t, 1.0)),
  }
  total = jnp.where(clock.num_steps > 0, clock.num_steps, 1.0)
  moves["horizon"] = jnp.where(
    clock.num_steps > 0, jnp.minimum(1.0 / total, 1.0), moves["log"]
  )
  move = jnp.stack([moves[pole.coordinate] for pole in poles])
  return jnp.exp(-_bounded(poles, alpha) * move[None, :])


def _bounded(poles: Sequence[Pole], alpha):
  """Clips rates on the step; one of 0 stays 0."""
  low = [
    MIN_RATE if pole.coordinate == "step" and pole.rate > 0 else 0.0
    for pole in poles
  ]
  high = [MAX_RATE if pole.coordinate == "step" else 100.0 for pole in poles]
  shape = (1,) * (alpha.ndim - 1) + (-1,)
  bounds = [jnp.asarray(x, alpha.dtype).reshape(shape) for x in (low, high)]
  return jnp.clip(alpha, *bounds)
