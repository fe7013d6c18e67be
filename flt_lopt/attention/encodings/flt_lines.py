"""FLT with learned lines: frequencies and complex weights, no sampling.

g is a sum of deltas, so f(D) = sum_l a_l cos(2 pi xi_l . D)
- b_l sin(2 pi xi_l . D) holds exactly; the sine part makes f asymmetric at no
cost. Frequencies are xi = bandwidth * tanh(sinh(raw) / 1000), so that one
step of training changes low and high ones by the same share; they start
log-spaced over two and a half decades, and never alias for integer positions
(bandwidth 1/2).

Names: `FltLines`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from flt_lopt.attention.encodings.base import ENCODINGS, Params
from flt_lopt.attention.encodings.spectral import Lines, SpectralEncoding

# Below this share of the bandwidth, frequencies are linear in `raw`.
LOW = 1e-3


@ENCODINGS.register("flt_lines")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FltLines(SpectralEncoding):
  """A learned line spectrum; see `SpectralEncoding` for the options.

  Args:
    bandwidth: largest frequency, in turns per scaled unit.
    amplitude: size of f at initialisation, small but not zero.
  """

  bandwidth: float = 0.5
  amplitude: float = 0.1

  def init(self, key: jax.Array) -> Params:
    """Return raw frequencies and complex weights."""
    shape = (self.num_heads, self.num_lines)
    key_direction, key_phase = jax.random.split(key)
    # Log-spaced, offset per head so that heads differ.
    step = 2.5 / (self.num_heads * self.num_lines)
    grid = jnp.arange(self.num_heads * self.num_lines) * step
    size = 0.9 * 10.0 ** (-grid.reshape(shape[::-1]).T)
    direction = jax.random.normal(key_direction, (*shape, self.coord_dim))
    direction = direction / jnp.linalg.norm(direction, axis=-1, keepdims=True)
    turn = 2 * jnp.pi * jax.random.uniform(key_phase, shape)
    weight = self.amplitude / self.num_lines
    return {
      "frequency": jnp.arcsinh(jnp.arctanh(size[..., None] * direction) / LOW),
      "real": weight * jnp.cos(turn),
      "imag": weight * jnp.sin(turn),
      **self.init_decay(),
    }

  def lines(self, params: Params) -> Lines:
    """Return the learned lines."""
    return Lines(
      self.bandwidth * jnp.tanh(LOW * jnp.sinh(params["frequency"])),
      params["real"],
      params["imag"],
    )
