"""Streaming: one token per call, constant state.

Names: `StreamingAttention`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from flt_lopt.attention.encodings.base import Encoding, Params
from flt_lopt.attention.feature_maps import FeatureMap
from flt_lopt.attention.forms.causal import State, memory_of
from flt_lopt.attention.forms.partial import finish
from flt_lopt.attention.forms.tokens import (
  check_form,
  init_params,
  resolve_feature_map,
)
from flt_lopt.attention.numerics import work_dtype


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
  num_features: int | None = 16
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
  ) -> State:
    """Return the state before the first token.

    Args:
      batch_shape: leading dimensions of queries, keys and values.
      dtype: of the accumulators; float32 unless in float64.
    """
    # The shapes of the poles do not depend on parameter values.
    poles = jax.eval_shape(
      lambda: self.encoding.poles(self.encoding.init(jax.random.key(0)))
    )
    return memory_of(self.encoding).empty(
      self.encoding,
      poles,
      self.features.num_features,
      self.value_dim,
      batch_shape=batch_shape,
      position_batch=(),
      dtype=dtype,
    )

  def step(
    self,
    params: Params,
    state: State,
    q: Float[Array, "*batch heads dim"],
    k: Float[Array, "*batch heads dim"],
    v: Float[Array, "*batch heads value"],
    position: Num[Array, "coords"],
    *,
    valid: Bool[Array, "*batch"] | None = None,
    projection: Float[Array, "heads features dim"] | None = None,
  ) -> tuple[State, Float[Array, "*batch heads value"]]:
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
      projection: replaces the feature map's constant one.

    Returns:
      The next state and the output, in the dtype of `v`.
    """
    encoding, features = self.encoding, self.features
    dtype = work_dtype(q, k, v)
    positions = jnp.reshape(jnp.asarray(position), (1, encoding.coord_dim))
    q, k, values = (x.astype(dtype)[..., None, :] for x in (q, k, v))
    if valid is not None:
      valid = valid[..., None]
      keep = valid[..., None, None]
      k, values = jnp.where(keep, k, 0), jnp.where(keep, values, 0)
    learned = params.get("feature_map", {})
    log_q, log_k = (
      features.log_features(learned, x, projection=projection)
      for x in (
        encoding.queries(params, q, positions),
        encoding.keys(params, k, positions),
      )
    )
    state, partial = memory_of(encoding).advance(
      encoding,
      params,
      encoding.poles(params),
      state,
      log_q,
      log_k,
      values,
      positions,
      valid,
    )
    out = finish(partial, normalised=encoding.normalised)
    return state, out[..., 0, :].astype(v.dtype)
