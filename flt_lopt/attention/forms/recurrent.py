"""The recurrent form: one token at a time, constant state.

With log features lq, lk, a running maximum m per feature and poles p of
decay a_p, one step is
  m'   = max(m - a_p . dr, lk)
  mass = e^(m - a_p . dr - m') mass + e^(lk - m')
  sum  = e^(m - a_p . dr - m') sum + e^(lk - m') (cos, sin)(xi_p . r) v^T
and the output reads sum with weights e^(lq + m' - max). The maximum belongs
to the past only, decays with the state, and makes the normaliser at least 1
from the first token on: no epsilon anywhere.

Names: `StreamingAttention`, `StreamState`.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from flt_lopt.attention.encodings.base import Encoding, Params, Poles
from flt_lopt.attention.feature_maps import FeatureMap, make_feature_map
from flt_lopt.attention.numerics import NEGATIVE, einsum, work_dtype


class StreamState(NamedTuple):
  """Everything a causal pass remembers; its size does not depend on t."""

  log_max: Float[Array, "*batch heads poles features"]
  mass: Float[Array, "*batch heads poles features"]
  sums: Float[Array, "*batch heads poles rotation features value"]
  position: Float[Array, "coords"]  # of the last token


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamingAttention:
  """Causal attention over a stream, one token per call.

  Args:
    encoding: an encoding with a recurrent form.
    feature_map: a registry name, or a feature map.
    num_features: M, used if `feature_map` is a name.
    value_dim: width of the values.
    seed: of the constant random projection, if `feature_map` is a name.

  Raises:
    ValueError: the encoding has no recurrence; the message says what to
      use instead.

  Example:
    >>> encoding = make_encoding("alibi", num_heads=2, head_dim=8)
    >>> attention = StreamingAttention(encoding=encoding, value_dim=8)
    >>> params = attention.init(jax.random.key(0))
    >>> state = attention.init_state()
    >>> state, out = attention.step(params, state, q, k, v, t)
  """

  encoding: Encoding
  feature_map: str | FeatureMap = "favor_plus"
  num_features: int = 16
  value_dim: int
  seed: int = 0

  def __post_init__(self) -> None:
    check_form(self.encoding, "recurrent")

  @property
  def features(self) -> FeatureMap:
    """The feature map itself."""
    return resolve_feature_map(
      self.feature_map,
      self.encoding,
      num_features=self.num_features,
      seed=self.seed,
    )

  def init(self, key: jax.Array) -> Params:
    """Return the encoding's parameters, and the map's if it has any."""
    return init_params(self.encoding, self.features, key)

  def init_state(
    self,
    batch_shape: tuple[int, ...] = (),
    *,
    dtype: jnp.dtype = jnp.float32,
  ) -> StreamState:
    """Return the state before the first token.

    Args:
      batch_shape: leading dimensions of queries, keys and values.
      dtype: of the accumulators; float32 unless in float64.
    """
    # The shapes of the poles do not depend on parameter values.
    poles = jax.eval_shape(
      lambda: self.encoding.poles(self.encoding.init(jax.random.key(0)))
    )
    return empty_state(
      self.encoding,
      poles,
      self.features.num_features,
      self.value_dim,
      batch_shape,
      dtype,
    )

  def step(
    self,
    params: Params,
    state: StreamState,
    q: Float[Array, "*batch heads dim"],
    k: Float[Array, "*batch heads dim"],
    v: Float[Array, "*batch heads value"],
    position: Num[Array, "coords"],
    *,
    valid: Bool[Array, "*batch"] | None = None,
  ) -> tuple[StreamState, Float[Array, "*batch heads value"]]:
    """Take in one token and return the attention output at it.

    Args:
      params: what `init` (or the encoding's `init`) returned.
      state: from `init_state` or the previous step.
      q: query.
      k: key.
      v: value.
      position: coordinates, `[coords]` or a scalar; an integer step gets
        an exactly reduced phase.
      valid: `False` where the token's key and value do not count.

    Returns:
      The next state and the output, in the dtype of `v`.
    """
    dtype = work_dtype(q, k, v)
    position = jnp.reshape(jnp.asarray(position), (1, -1))
    features, encoding = self.features, self.encoding
    q = q.astype(dtype)[..., None, :]
    k = k.astype(dtype)[..., None, :]
    v_work = v.astype(dtype)
    if valid is not None:
      keep = valid[..., None, None]
      k = jnp.where(keep[..., None], k, 0)
      v_work = jnp.where(keep, v_work, 0)
    map_params = params.get("feature_map", {})
    log_q = features.log_features(
      map_params, encoding.queries(params, q, position)
    )
    log_k = features.log_features(
      map_params, encoding.keys(params, k, position)
    )
    state, out = update_and_read(
      state,
      encoding.poles(params),
      log_q[..., 0, :],
      log_k[..., 0, :],
      v_work,
      position[0],
      valid,
    )
    return state, out.astype(v.dtype)


def empty_state(
  encoding: Encoding,
  poles: Poles | None,
  num_features: int,
  value_dim: int,
  batch_shape: tuple[int, ...],
  dtype: jnp.dtype,
) -> StreamState:
  """Return the state of a stream that has seen nothing."""
  count = 1 if poles is None else poles.decay.shape[1]
  turning = poles is not None and poles.frequency is not None
  shape = (*batch_shape, encoding.num_heads, count)
  sums = (*shape, 2 if turning else 1, num_features, value_dim)
  return StreamState(
    log_max=jnp.full((*shape, num_features), NEGATIVE, dtype),
    mass=jnp.zeros((*shape, num_features), dtype),
    sums=jnp.zeros(sums, dtype),
    position=jnp.zeros((encoding.coord_dim,), dtype),
  )


def update_and_read(
  state: StreamState,
  poles: Poles | None,
  log_q: Float[Array, "*batch heads features"],
  log_k: Float[Array, "*batch heads features"],
  v: Float[Array, "*batch heads value"],
  position: Num[Array, "coords"],
  valid: Bool[Array, "*batch"] | None = None,
) -> tuple[StreamState, Float[Array, "*batch heads value"]]:
  """Do one step of the recurrence on log features."""
  old_max = state.log_max
  if poles is not None:
    # Neighbouring positions: the difference is exact in float32.
    lag = position.astype(state.position.dtype) - state.position
    old_max = old_max + poles.log_decay(lag)[..., None]
  log_k = log_k[..., None, :]
  log_max = jax.lax.stop_gradient(jnp.maximum(old_max, log_k))
  keep = jnp.exp(old_max - log_max)
  write = jnp.exp(log_k - log_max)
  if valid is not None:
    valid = valid[..., None, None, None]
    log_max = jnp.where(valid, log_max, jax.lax.stop_gradient(old_max))
    keep = jnp.where(valid, keep, 1.0)
    write = jnp.where(valid, write, 0.0)
  mass = keep * state.mass + write
  turned = write[..., None, :]
  if poles is not None and poles.frequency is not None:
    query_turn, key_turn = poles.rotations(position)
    turned = turned * key_turn[..., None]
  sums = keep[..., None, :, None] * state.sums
  sums = sums + turned[..., None] * v[..., None, None, None, :]
  scores = log_q[..., None, :] + log_max
  if poles is not None:
    scores = scores + poles.log_weight[..., None]
  top = jnp.max(jax.lax.stop_gradient(scores), (-2, -1), keepdims=True)
  weight = jnp.exp(scores - top)
  total = jnp.sum(weight * mass, axis=(-2, -1))[..., None]
  if poles is not None and poles.frequency is not None:
    out = einsum("...pm,...pr,...prmv->...v", weight, query_turn, sums)
  elif poles is not None:
    sign = poles.real * jnp.exp(-poles.log_weight)
    out = einsum(
      "...pm,...pmv->...v", weight * sign[..., None], sums[..., 0, :, :]
    )
  else:
    out = einsum("...pm,...pmv->...v", weight, sums[..., 0, :, :])
  out = out / jnp.where(total > 0, total, 1.0)
  return StreamState(
    log_max, mass, sums, position.astype(state.position.dtype)
  ), out


def check_form(encoding: Encoding, form: str) -> None:
  """Raise a ValueError that names the alternative if there is no form."""
  if form in encoding.forms:
    return
  raise ValueError(
    f"Encoding {encoding.name!r} has no {form} form; it has "
    f"{', '.join(sorted(encoding.forms))}. {encoding.alternative}"
  )


def resolve_feature_map(
  feature_map: str | FeatureMap,
  encoding: Encoding,
  *,
  num_features: int,
  seed: int = 0,
) -> FeatureMap:
  """Return the feature map, built to fit the encoding if it is a name."""
  if not isinstance(feature_map, str):
    return feature_map
  return make_feature_map(
    feature_map,
    num_heads=encoding.num_heads,
    dim=encoding.encoded_dim,
    num_features=num_features,
    seed=seed,
  )


def init_params(
  encoding: Encoding, features: FeatureMap, key: jax.Array
) -> Params:
  """Return the encoding's parameters plus the feature map's, if any."""
  key_encoding, key_features = jax.random.split(key)
  params = encoding.init(key_encoding)
  learned = features.init(key_features)
  return {**params, "feature_map": learned} if learned else params
