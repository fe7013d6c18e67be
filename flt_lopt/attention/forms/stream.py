"""The state of linear attention: absorb keys and values, read by queries.

With log features lk, a running maximum m per feature and pole p, decay a_p:
  m'   = max(m - a_p . dr, max_j lk_j - a_p . (r - r_j))
  mass = e^(m - a_p . dr - m') mass + sum_j e^(lk_j - a_p . (r - r_j) - m')
  sum  = the same with (cos, sin)(2 pi xi_p . r_j) v_j
The phase is absolute and exactly reduced, the decay relative: nothing drifts.
The maximum belongs to the past only, decays with the state, and makes the
normaliser at least 1 from the first token on: no epsilon anywhere. It cancels
in the output, so no gradient passes through it.

Names: `StreamState`, `empty`, `absorb`, `read`, `advance`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from flt_lopt.attention.encodings.base import (
  Encoding,
  Params,
  Poles,
  pairwise_lags,
)
from flt_lopt.attention.feature_maps.base import log_kernel_from_features
from flt_lopt.attention.forms.partial import Partial, dense_partial, merge
from flt_lopt.attention.numerics import NEGATIVE, einsum


class StreamState(NamedTuple):
  """Everything a causal pass remembers; its size does not depend on t."""

  log_max: Float[Array, "*batch heads poles features"]
  mass: Float[Array, "*batch heads poles features"]
  sums: Float[Array, "*batch heads poles rotation features value"]
  position: Float[Array, "*batch coords"]  # of the last token


def empty(
  encoding: Encoding,
  poles: Poles | None,
  num_features: int,
  value_dim: int,
  *,
  batch_shape: tuple[int, ...],
  position_batch: tuple[int, ...],
  dtype: jnp.dtype,
) -> StreamState:
  """Return the state of a stream that has seen nothing.

  Args:
    encoding: the encoding.
    poles: its poles (shapes suffice).
    num_features: number of features.
    value_dim: width of the values.
    batch_shape: leading dimensions of the tokens.
    position_batch: leading dimensions of the positions.
    dtype: of the accumulators.
  """
  count = 1 if poles is None else poles.decay.shape[1]
  rotation = 1 if poles is None or poles.frequency is None else 2
  shape = (*batch_shape, encoding.num_heads, count)
  return StreamState(
    log_max=jnp.full((*shape, num_features), NEGATIVE, dtype),
    mass=jnp.zeros((*shape, num_features), dtype),
    sums=jnp.zeros((*shape, rotation, num_features, value_dim), dtype),
    position=jnp.zeros((*position_batch, encoding.coord_dim), dtype),
  )


def _before_length(x: Array) -> Array:
  """Turn `[*batch, length, heads, ...]` of a pole into heads first."""
  return jnp.moveaxis(x, -3, -2)


def absorb(
  state: StreamState,
  poles: Poles | None,
  log_k: Float[Array, "*batch heads length features"],
  v: Float[Array, "*batch heads length value"],
  positions: Num[Array, "*batch length coords"],
  *,
  valid: Bool[Array, "*batch length"] | None = None,
  damped: bool = True,
) -> StreamState:
  """Take keys and values into the state, and move it to the last of them.

  Args:
    state: what the stream remembers.
    poles: the encoding's mask, or `None`.
    log_k: log features of the keys.
    v: values.
    positions: of the tokens.
    valid: `False` for tokens that do not count.
    damped: `False` ignores the decay.
  """
  last = positions[..., -1, :].astype(state.position.dtype)
  old_max, logs = state.log_max, log_k[..., None, :, :]
  if poles is not None and damped:
    # Neighbouring positions: the difference is exact in float32.
    old_max = old_max + poles.log_decay(last - state.position)[..., None]
    if positions.shape[-2] > 1:
      fade = poles.log_decay(positions[..., -1:, :] - positions)
      logs = logs + jnp.moveaxis(fade, -3, -1)[..., None]
  if valid is not None:
    keep = valid[..., None, None, :, None]
    logs = jnp.where(keep, logs, NEGATIVE)
  newest = jnp.max(logs, axis=-2)
  log_max = jax.lax.stop_gradient(jnp.maximum(old_max, newest))
  old_share = jnp.exp(old_max - log_max)
  write = jnp.exp(logs - log_max[..., None, :])
  if valid is not None:
    write = jnp.where(keep, write, 0.0)
  mass = old_share * state.mass + jnp.sum(write, axis=-2)
  if poles is None or poles.frequency is None:
    new = einsum("...hpnm,...hnv->...hpmv", write, v)[..., None, :, :]
  else:
    _, turn = poles.rotations(positions)
    new = einsum("...hpnm,...nhpr,...hnv->...hprmv", write, turn, v)
  sums = old_share[..., None, :, None] * state.sums + new
  return StreamState(log_max, mass, sums, last)


def read(
  state: StreamState,
  poles: Poles | None,
  log_q: Float[Array, "*batch heads length features"],
  positions: Num[Array, "*batch length coords"],
  *,
  moved: bool = True,
) -> Partial:
  """Attend with queries to all that the state has absorbed.

  Args:
    state: what the stream remembers.
    poles: the encoding's mask, or `None`.
    log_q: log features of the queries.
    positions: of the queries.
    moved: `False` if the queries stand where the state does (or nothing
      decays), so that no decay needs to be applied.
  """
  scores = log_q[..., None, :] + state.log_max[..., None, :, :]
  if poles is not None:
    scores = scores + poles.log_weight[:, None, :, None]
    if moved:
      here = positions.astype(state.position.dtype)
      fade = poles.log_decay(here - state.position[..., None, :])
      scores = scores + _before_length(fade)[..., None]
  top = jnp.max(jax.lax.stop_gradient(scores), axis=(-2, -1))
  weight = jnp.exp(scores - top[..., None, None])
  total = einsum("...npm,...pm->...n", weight, state.mass)
  if poles is None:
    sums = state.sums[..., 0, 0, :, :]
    value = einsum("...nm,...mv->...nv", weight[..., 0, :], sums)
  else:
    turn, _ = poles.rotations(positions)
    value = einsum("...hnpm,...nhpr,...hprmv->...hnv", weight, turn, state.sums)
  return Partial(top, total, value)


def advance(
  encoding: Encoding,
  params: Params,
  poles: Poles | None,
  state: StreamState,
  log_q: Float[Array, "*batch heads length features"],
  log_k: Float[Array, "*batch heads length features"],
  v: Float[Array, "*batch heads length value"],
  positions: Num[Array, "*batch length coords"],
  valid: Bool[Array, "*batch length"] | None,
) -> tuple[StreamState, Partial]:
  """Attend causally to the past and to the new tokens; absorb them.

  One token is absorbed and read back. Several read the past through the
  state and each other pair by pair, so that no row's reference is a maximum
  over its future.
  """
  size = log_q.shape[-2]
  new_state = absorb(state, poles, log_k, v, positions, valid=valid)
  if size == 1:
    return new_state, read(new_state, poles, log_q, positions, moved=False)
  mask = None
  if poles is not None:
    mask = encoding.mask(params, pairwise_lags(positions, positions))
  allowed = jnp.tril(jnp.ones((size, size), bool))
  if valid is not None:
    allowed = allowed & valid[..., None, None, :]
  log_kernel = log_kernel_from_features(log_q, log_k)
  own = dense_partial(log_kernel, mask, v, allowed)
  return new_state, merge(read(state, poles, log_q, positions), own)
