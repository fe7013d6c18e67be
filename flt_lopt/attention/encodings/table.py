"""Tables over the integer lag, shared by NPRF, Shaw and PosMLP.

Names: `lag_index`, `table_at`.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num


def lag_index(
  lags: Num[Array, "*shape one"], max_lag: int
) -> Int[Array, "*shape"]:
  """Return the table row of a lag: max_lag + lag, clipped to the table."""
  return max_lag + jnp.clip(lags[..., 0], -max_lag, max_lag)


def table_at(
  table: Float[Array, "heads rows"],
  lags: Num[Array, "*shape one"],
  max_lag: int,
) -> Float[Array, "*shape heads"]:
  """Look up lags; those beyond the table get its last entries."""
  return jnp.take(table.T, lag_index(lags, max_lag), axis=0)
