"""Local attention, exactly: a sharp box over whole steps.

A_tj = kappa(q_t, k_j) 1[|t - j| < window_size]. Causal forms keep the last
`window_size` tokens; adding new minus old to a sum would drift.

Names: `FltLocalExact`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Num

from flt_lopt.attention.encodings.base import (
  ENCODINGS,
  Encoding,
  Mask,
  Params,
)
from flt_lopt.attention.numerics import NEGATIVE


@ENCODINGS.register("flt_local_exact")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FltLocalExact(Encoding):
  """A sharp window; nothing is learned.

  Args:
    window_size: a token sees those less than this many steps away.

  Raises:
    ValueError: an empty window.
  """

  window_size: int = 16

  integer_positions: ClassVar[bool] = True

  def __post_init__(self) -> None:
    if self.window_size < 1:
      raise ValueError(f"window_size={self.window_size} must be at least 1.")

  @property
  def toeplitz(self) -> bool:
    """Whether the parallel form must apply the mask by FFT."""
    return True

  @property
  def window(self) -> int | None:
    """How many tokens causal forms keep."""
    return self.window_size

  def mask(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Mask | None:
    """Return the box."""
    del params
    inside = jnp.all(jnp.abs(lags) < self.window_size, axis=-1)
    log_mass = jnp.where(inside, 0.0, NEGATIVE)[..., None]
    shape = (*lags.shape[:-1], self.num_heads)
    return Mask(jnp.broadcast_to(log_mass, shape))
