"""The state of linear attention: absorb keys and values, read by queries.

With log features lk, a running maximum m per feature and pole p, decay a_p:
  m'   ~ max(m - a_p . dr, max_j lk_j - a_p . (r - r_j))
  mass = e^(m - m' - a_p . dr) mass + sum_j e^(lk_j - a_p . (r - r_j) - m')
  mean = the same with (cos, sin)(2 pi xi_p . r_j) v_j, over mass
The phase is absolute and exactly reduced, the decay relative, the mass is
kept in two floats and the values as a mean: nothing drifts in 1e6 steps.
The maximum belongs to the past only, decays with the state, and keeps the
normaliser above 1/e from the first token on: no epsilon anywhere. It cancels
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
  mass_rest: Float[Array, "*batch heads poles features"]  # what it rounds off
  mean: Float[Array, "*batch heads poles rotation features value"]
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
    mass_rest=jnp.zeros((*shape, num_features), dtype),
    mean=jnp.zeros((*shape, rotation, num_features, value_dim), dtype),
    position=jnp.zeros((*position_batch, encoding.coord_dim), dtype),
  )


def _lowered(state: StreamState, fade: Array) -> Array:
  """Return a reference that follows the decaying mass in whole units.

  Subtracting a small decay from the maximum at each step would round it to
  the maximum's last bit, and the rates with it. So the mass decays, and once
  it has lost a factor e, the reference takes it over.
  """
  mass = jnp.maximum(jax.lax.stop_gradient(state.mass), 0.1)
  return state.log_max - jnp.floor(-jnp.log(mass) - fade).clip(0.0)


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
  """Return a + b and what rounding took from it (Knuth)."""
  total = a + b
  part = total - a
  return total, jax.lax.stop_gradient((a - (total - part)) + (b - part))


def _grown(
  state: StreamState, loss: Array, written: Array
) -> tuple[Array, Array]:
  """Return (1 + loss) mass + written, in two floats.

  One float stands still: a mass of 1e4 that gains 1 and loses 1e-4 of itself
  stops short of its limit, and one of 1e6 can't gain 0.02.
  """
  rest = state.mass_rest + loss * state.mass_rest
  mass, rounding = _two_sum(state.mass, loss * state.mass)
  rest = rest + rounding
  mass, rounding = _two_sum(mass, written)
  return _two_sum(mass, rest + rounding)


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
  fade_old = jnp.zeros((), log_k.dtype)
  if poles is not None and damped:
    # Neighbouring positions: the difference is exact in float32.
    fade_old = poles.log_decay(last - state.position)[..., None]
    old_max = _lowered(state, fade_old)
    if positions.shape[-2] > 1:
      fade = poles.log_decay(positions[..., -1:, :] - positions)
      logs = logs + jnp.moveaxis(fade, -3, -1)[..., None]
  if valid is not None:
    keep = valid[..., None, None, :, None]
    logs = jnp.where(keep, logs, NEGATIVE)
  newest = jnp.max(logs, axis=-2)
  log_max = jax.lax.stop_gradient(jnp.maximum(old_max, newest))
  loss = jnp.expm1((state.log_max - log_max) + fade_old)
  write = jnp.exp(logs - log_max[..., None, :])
  if valid is not None:
    write = jnp.where(keep, write, 0.0)
  written = jnp.sum(write, axis=-2)
  mass, mass_rest = _grown(state, loss, written)
  # Shares of the new mass: mean' = mean + sum_j share_j (v_j - mean).
  safe = jnp.where(mass > 0, mass, 1.0)
  share = write / safe[..., None, :]
  new = _outer(share, v, None if poles is None else poles.turn_key(positions))
  shares = (written / safe)[..., None, :, None]
  mean = state.mean + (new - shares * state.mean)
  return StreamState(log_max, mass, mass_rest, mean, last)


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
  weight = weight * state.mass[..., None, :, :]
  total = jnp.sum(weight, axis=(-2, -1))
  turn = None if poles is None else poles.turn_query(positions)
  return Partial(top, total, _contract(weight, state.mean, turn))


def _outer(share: Array, v: Array, turn: Array | None) -> Array:
  """Return sum_n share turn v, `[*batch, heads, poles, rotation, M, value]`."""
  if turn is None:
    return einsum("...hpnm,...hnv->...hpmv", share, v)[..., None, :, :]
  return einsum("...hpnm,...nhpr,...hnv->...hprmv", share, turn, v)


def _contract(weight: Array, mean: Array, turn: Array | None) -> Array:
  """Return sum over poles, rotation and features, `[.., heads, n, value]`."""
  if turn is None:
    return einsum("...hnpm,...hprmv->...hnv", weight, mean)
  return einsum("...hnpm,...nhpr,...hprmv->...hnv", weight, turn, mean)


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
