"""convSPE: stochastic encoding by filtered white noise.

Q_d = Phi^Q_d * Z_d and K_d = Phi^K_d * Z_d with shared white noise Z_d and
learned filters of W taps, so P_d is their cross-correlation,
  P_d(D) = sum_s Phi^Q_d(s) Phi^K_d(s - D), zero for |D| >= W.
The noise at a step is a hash of (seed, step, feature, realisation), so a
stream regenerates it at any step and keeps none.
Source: Liutkus et al., Relative Positional Encoding for Transformers with
Linear Complexity, 2021.

Names: `ConvSpe`, `counter_normal`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from flt_lopt.attention.encodings.base import ENCODINGS, Params
from flt_lopt.attention.encodings.nprf import require_one_coordinate
from flt_lopt.attention.encodings.spe import StochasticEncoding
from flt_lopt.attention.numerics import einsum


def _mix(x: Array) -> Array:
  """Scramble 32 bits (two rounds of multiply and xor-shift)."""
  x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
  x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
  return x ^ (x >> 16)


def counter_normal(
  steps: Num[Array, "*shape"], *, count: int, seed: int
) -> Float[Array, "*shape count"]:
  """Return N(0, 1) numbers that are a pure function of step and index."""
  steps = steps.astype(jnp.int32).astype(jnp.uint32)
  lanes = jnp.arange(count, dtype=jnp.uint32) * jnp.uint32(0x9E3779B9)
  bits = _mix(steps + _mix(jnp.uint32(seed) + jnp.uint32(1)))
  bits = _mix(bits[..., None] ^ _mix(lanes))
  # 24 bits, centred in their cells: never exactly -1 or 1.
  uniform = ((bits >> 8).astype(jnp.float32) + 0.5) * 2.0**-23 - 1.0
  return np.float32(np.sqrt(2.0)) * jax.lax.erf_inv(uniform)


@ENCODINGS.register("conv_spe")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvSpe(StochasticEncoding):
  """convSPE; see `StochasticEncoding` for the other options.

  Args:
    num_taps: W, length of the filters in steps.
  """

  num_taps: int = 8

  integer_positions: ClassVar[bool] = True

  def __post_init__(self) -> None:
    require_one_coordinate(self)

  def init(self, key: jax.Array) -> Params:
    """Return both filters, `[heads, dim, taps]`, and gates.

    They start alike, decaying at different speeds, plus noise: P_d is
    about 1 at lag 0.
    """
    shape = (self.num_heads, self.head_dim, self.num_taps)
    rate = jnp.linspace(0.1, 1.0, self.num_heads * self.head_dim)
    rate = rate.reshape(self.head_dim, self.num_heads).T[..., None]
    taps = jnp.exp(-rate * jnp.arange(self.num_taps))
    taps = taps / jnp.linalg.norm(taps, axis=-1, keepdims=True)
    key_query, key_key = jax.random.split(key)
    return {
      "query_filter": taps + 0.02 * jax.random.normal(key_query, shape),
      "key_filter": taps + 0.02 * jax.random.normal(key_key, shape),
      **self.init_gate(),
    }

  def process(
    self,
    params: Params,
    x: Float[Array, "*batch heads length dim"],
    positions: Num[Array, "*batch length coords"],
    *,
    query: bool,
  ) -> Float[Array, "*batch heads length realisations"]:
    """Return sum_d x_d (Phi_d * Z_d)(t)."""
    filters = params["query_filter" if query else "key_filter"]
    past = jnp.arange(self.num_taps, dtype=jnp.int32)
    steps = positions[..., 0][..., None] - past
    noise = counter_normal(
      steps,
      count=self.head_dim * self.num_realisations,
      seed=self.seed,
    )
    noise = noise.reshape(*steps.shape, self.head_dim, self.num_realisations)
    placed = x[..., None] * filters[:, None, :, :]
    return einsum("...hndw,...nwdr->...hnr", placed, noise)

  def position_covariance(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Float[Array, "*shape heads dim"]:
    """Return the cross-correlation of the filters at a lag."""
    size = self.num_taps
    padded = jnp.pad(params["key_filter"], ((0, 0), (0, 0), (size, size)))
    # Row i is lag i - size: sum_s Phi^Q(s) Phi^K(s - lag).
    rows = [
      jnp.sum(
        params["query_filter"] * padded[..., 2 * size - i : 3 * size - i],
        axis=-1,
      )
      for i in range(2 * size + 1)
    ]
    index = jnp.clip(lags[..., 0], -size, size) + size
    return jnp.take(jnp.stack(rows), index, axis=0)
