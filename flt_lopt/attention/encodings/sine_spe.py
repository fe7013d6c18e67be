"""sineSPE: stochastic encoding by sines with random amplitudes.

  P_d(D) = (1 / 2K) sum_k gain_dk^2 cos(2 pi (f_dk D + theta_dk))
Q_d(t) = [cos, sin](2 pi (f t + theta)) Z_d, K_d(j) = [cos, sin](2 pi f j) Z_d,
Z_d = gain N(0, 1) / sqrt(2K) shared by both. f = sigmoid(raw) / 2 starts
slow; frequencies, offsets and gains come from separate keys and are learned.
Source: Liutkus et al., Relative Positional Encoding for Transformers with
Linear Complexity, 2021.

Names: `SineSpe`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from flt_lopt.attention.encodings.base import ENCODINGS, Params
from flt_lopt.attention.encodings.spe import StochasticEncoding
from flt_lopt.attention.numerics import cos_sin, einsum, phase


@ENCODINGS.register("sine_spe")
@dataclasses.dataclass(frozen=True, kw_only=True)
class SineSpe(StochasticEncoding):
  """sineSPE; see `StochasticEncoding` for the other options.

  Args:
    num_sines: K, sines per head and feature.
  """

  num_sines: int = 4

  def init(self, key: jax.Array) -> Params:
    """Return raw frequencies, offsets, raw gains and gates."""
    keys = jax.random.split(key, 3)
    shape = (self.num_heads, self.head_dim, self.num_sines)
    slow = jax.random.normal(keys[0], (*shape, self.coord_dim)) - 4.0
    return {
      "frequency": slow,
      "offset": 0.1 * jax.random.normal(keys[1], shape),
      # softplus(1.13) = sqrt(2): P_d(0) starts near 1.
      "gain": 1.13 + 0.1 * jax.random.normal(keys[2], shape),
      **self.init_gate(),
    }

  def _turns(
    self, params: Params, positions: Num[Array, "*shape coords"]
  ) -> Float[Array, "*shape heads dim sines"]:
    frequency = 0.5 * jax.nn.sigmoid(params["frequency"])
    flat = frequency.reshape(self.num_heads, -1, self.coord_dim)
    return phase(flat, positions).reshape(
      *positions.shape[:-1],
      self.num_heads,
      self.head_dim,
      self.num_sines,
    )

  def process(
    self,
    params: Params,
    x: Float[Array, "*batch heads length dim"],
    positions: Num[Array, "*batch length coords"],
    *,
    query: bool,
  ) -> Float[Array, "*batch heads length realisations"]:
    """Return sum_d x_d [cos, sin](...) Z_d."""
    turns = self._turns(params, positions)
    if query:
      turns = turns + params["offset"]
    wave = jnp.concatenate(cos_sin(turns), axis=-1)
    gain = jnp.tile(jax.nn.softplus(params["gain"]), (1, 1, 2))
    noise = self.normal(
      self.num_heads,
      self.head_dim,
      2 * self.num_sines,
      self.num_realisations,
    )
    noise = noise * (gain * (2 * self.num_sines) ** -0.5)[..., None]
    placed = x[..., None] * jnp.moveaxis(wave, -3, -4)
    return einsum("...hndk,hdkr->...hnr", placed, noise)

  def position_covariance(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Float[Array, "*shape heads dim"]:
    """Return (1 / 2K) sum_k gain^2 cos(2 pi (f lag + theta))."""
    cos, _ = cos_sin(self._turns(params, lags) + params["offset"])
    square = jnp.square(jax.nn.softplus(params["gain"]))
    return 0.5 * jnp.mean(square * cos, axis=-1)
