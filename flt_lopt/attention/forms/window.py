"""The state of windowed attention: the last tokens themselves.

A sharp window has no finite sum of poles, and adding new minus old to a state
drifts. Keeping the last `window` keys and values is exact, costs
O(window (M + value)) per step, and stays constant in t.

Names: `WindowState`, `empty`, `advance`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from flt_lopt.attention.encodings.base import (
  Encoding,
  Params,
  Poles,
  pairwise_lags,
)
from flt_lopt.attention.feature_maps.base import log_kernel_from_features
from flt_lopt.attention.forms.partial import Partial, dense_partial


class WindowState(NamedTuple):
  """The last `window` tokens, oldest first."""

  log_k: Float[Array, "*batch heads window features"]
  v: Float[Array, "*batch heads window value"]
  valid: Bool[Array, "*batch window"]
  positions: Num[Array, "*batch window coords"]


def empty(
  encoding: Encoding,
  poles: Poles | None,
  num_features: int,
  value_dim: int,
  *,
  batch_shape: tuple[int, ...],
  position_batch: tuple[int, ...],
  dtype: jnp.dtype,
) -> WindowState:
  """Return a window with no valid token; arguments as `stream.empty`."""
  del poles
  assert encoding.window is not None
  size = encoding.window
  heads = (*batch_shape, encoding.num_heads, size)
  return WindowState(
    log_k=jnp.zeros((*heads, num_features), dtype),
    v=jnp.zeros((*heads, value_dim), dtype),
    valid=jnp.zeros((*batch_shape, size), bool),
    positions=jnp.zeros((*position_batch, size, encoding.coord_dim), jnp.int32),
  )


def advance(
  encoding: Encoding,
  params: Params,
  poles: Poles | None,
  state: WindowState,
  log_q: Float[Array, "*batch heads length features"],
  log_k: Float[Array, "*batch heads length features"],
  v: Float[Array, "*batch heads length value"],
  positions: Num[Array, "*batch length coords"],
  valid: Bool[Array, "*batch length"] | None,
) -> tuple[WindowState, Partial]:
  """Attend to window and new tokens, then keep the newest."""
  del poles
  if valid is None:
    valid = jnp.ones((*v.shape[:-3], v.shape[-2]), bool)
  size = state.log_k.shape[-2]
  length = log_k.shape[-2]
  positions = positions.astype(state.positions.dtype)
  log_k = jnp.concatenate([state.log_k, log_k], axis=-2)
  v = jnp.concatenate([state.v, v], axis=-2)
  valid = jnp.concatenate([state.valid, valid], axis=-1)
  all_positions = jnp.concatenate([state.positions, positions], axis=-2)
  order = jnp.arange(size + length) <= jnp.arange(length)[:, None] + size
  mask = encoding.mask(params, pairwise_lags(positions, all_positions))
  partial = dense_partial(
    log_kernel_from_features(log_q, log_k),
    mask,
    v,
    order & valid[..., None, None, :],
  )
  newest = WindowState(
    log_k[..., length:, :],
    v[..., length:, :],
    valid[..., length:],
    all_positions[..., length:, :],
  )
  return newest, partial
