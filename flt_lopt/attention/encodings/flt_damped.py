"""Damped FLT: complex poles, whose causal recurrence is exact.

h(D) = Re sum_p c_p exp(-alpha_p . |D| + 2 pi i xi_p . D), a mask. Its Fourier
transform is a mixture of Lorentzians: for one real pole
  g(xi) = 2 alpha / (alpha^2 + 4 pi^2 xi^2).
No sampling, any pole in the unit disc, state 2 P M (value) per head. With
unit keys and one pole per head, attention is an exponential moving average
with Adam's bias correction. `fit_poles` makes such poles from any mask.

Names: `FltDamped`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from flt_lopt.attention.encodings.base import (
  ENCODINGS,
  Encoding,
  Params,
  Poles,
)

# Time constants from a third of a unit to a million units.
MIN_DECAY, MAX_DECAY = 1e-6, 3.0


@ENCODINGS.register("flt_damped")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FltDamped(Encoding):
  """A learned sum of damped complex poles.

  Args:
    num_poles: P, poles per head.
    oscillating: `False` gives real poles (xi = 0) at half the state.
    horizon: longest time constant at initialisation, in units of position.
  """

  num_poles: int = 4
  oscillating: bool = True
  horizon: float = 100.0

  def init(self, key: jax.Array) -> Params:
    """Return log decays, raw frequencies and complex weights.

    Time constants are log-spaced from 1 to `horizon`, shifted per head;
    frequencies spread over (0, 1/2); weights share 1 and differ in sign
    of the phase, so all components are distinguishable.
    """
    shape = (self.num_heads, self.num_poles)
    count = self.num_heads * self.num_poles
    grid = ((jnp.arange(count) + 0.5) / count).reshape(shape[::-1]).T
    log_rate = -grid * jnp.log(self.horizon) - jnp.log(self.coord_dim)
    coords = (*shape, self.coord_dim)
    params = {
      "log_decay": jnp.broadcast_to(log_rate[..., None], coords),
      "real": jnp.full(shape, 1 / self.num_poles),
    }
    if self.oscillating:
      noise = 0.1 * jax.random.normal(key, coords)
      raw = jnp.broadcast_to(6 * (0.25 - grid)[..., None], coords)
      params["frequency"] = raw - 3.0 + noise
      params["imag"] = (
        0.1
        * jnp.cos(jnp.pi * jnp.arange(count)).reshape(shape)
        / self.num_poles
      )
    return params

  @property
  def toeplitz(self) -> bool:
    """Whether the parallel form must apply the mask by FFT."""
    return True

  def poles(self, params: Params) -> Poles:
    """Return the learned poles."""
    decay = jnp.clip(jnp.exp(params["log_decay"]), MIN_DECAY, MAX_DECAY)
    if not self.oscillating:
      return Poles(decay, params["real"])
    frequency = 0.5 * jax.nn.sigmoid(params["frequency"])
    return Poles(decay, params["real"], params["imag"], frequency)
