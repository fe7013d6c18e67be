"""NPRF: normalised kernel attention with a free Toeplitz bias, by FFT.

A_tj = exp(b_{t-j}) kappa(q_t / |q_t|, k_j / |k_j|) with a learned table b.
Normalising bounds |q + k|^2, the exponent of FAVOR+'s variance, and the bias
gives the lost range back. A free table has no finite-state recurrence.
Source: Luo et al., Stable, Fast and Accurate: Kernelized Attention with
Relative Positional Encoding, 2021.

Names: `Nprf`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from flt_lopt.attention.encodings.base import (
  ENCODINGS,
  Encoding,
  Mask,
  Params,
)
from flt_lopt.attention.encodings.table import table_at

TABLE_ALTERNATIVE = (
  "A free table has no recurrence: use form='parallel' (FFT, causal too), "
  "or fit_poles to turn the table into 'flt_damped', which streams."
)


@ENCODINGS.register("nprf")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Nprf(Encoding):
  """A learned log-mask per lag, and normalised queries and keys.

  Args:
    max_lag: largest |lag| in the table; lags beyond share its ends.
    normalise: divide queries and keys by their norm; a learned temperature
      per head, exp(x . y) = exp(temperature cos), starts at 1.
    spread: standard deviation of b at initialisation.
  """

  max_lag: int = 128
  normalise: bool = True
  spread: float = 0.1

  forms: ClassVar[frozenset[str]] = frozenset({"dense", "parallel"})
  alternative: ClassVar[str] = TABLE_ALTERNATIVE
  integer_positions: ClassVar[bool] = True

  def __post_init__(self) -> None:
    require_one_coordinate(self)

  @property
  def toeplitz(self) -> bool:
    """Whether the parallel form must apply the mask by FFT."""
    return True

  def init(self, key: jax.Array) -> Params:
    """Return the table `[heads, 2 max_lag + 1]` and the temperature."""
    shape = (self.num_heads, 2 * self.max_lag + 1)
    params = {"table": self.spread * jax.random.normal(key, shape)}
    if self.normalise:
      params["log_temperature"] = jnp.zeros((self.num_heads,))
    return params

  def queries(
    self,
    params: Params,
    q: Float[Array, "*batch heads length dim"],
    positions: Num[Array, "*batch length coords"],
  ) -> Float[Array, "*batch heads length encoded"]:
    """Return normalised queries, times the root of the temperature."""
    if not self.normalise:
      return self.scale(q)
    square = jnp.sum(jnp.square(q), axis=-1, keepdims=True)
    root = jnp.exp(0.5 * params["log_temperature"])[:, None, None]
    return q * (root * jax.lax.rsqrt(square + 1e-12))

  def mask(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Mask | None:
    """Return exp(b)."""
    return Mask(table_at(params["table"], lags, self.max_lag))


def require_one_coordinate(encoding: Encoding) -> None:
  """Raise a ValueError unless positions are one integer."""
  if encoding.coord_dim != 1:
    raise ValueError(
      f"coord_dim={encoding.coord_dim}: encoding {encoding.name!r} is "
      "a table over one integer lag; use coord_dim=1, or 'flt' for "
      "several coordinates."
    )
