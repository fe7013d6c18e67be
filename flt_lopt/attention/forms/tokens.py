"""What the forms work on: checked tokens, heads first, and their features.

Names: `Tokens`, `make_tokens`, `log_features`, `check_form`,
`resolve_feature_map`, `init_params`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from flt_lopt.attention.encodings.base import Encoding, Params
from flt_lopt.attention.feature_maps import FeatureMap, make_feature_map
from flt_lopt.attention.numerics import canonical_positions, work_dtype


class Tokens(NamedTuple):
  """Queries, keys and values in the working dtype, before feature maps."""

  q: Float[Array, "*batch heads length dim"]
  k: Float[Array, "*batch heads length dim"]
  v: Float[Array, "*batch heads length value"]
  positions: Num[Array, "*batch length coords"]
  valid: Bool[Array, "*batch length"]
  explicit: bool  # whether positions were given

  @property
  def length(self) -> int:
    """Number of tokens."""
    return self.q.shape[-2]

  @property
  def batch_shape(self) -> tuple[int, ...]:
    """Leading dimensions of q."""
    return self.q.shape[:-3]


def make_tokens(
  encoding: Encoding,
  q: Float[Array, "*batch length heads dim"],
  k: Float[Array, "*batch length heads dim"],
  v: Float[Array, "*batch length heads value"],
  *,
  positions: Num[Array, "..."] | None,
  key_mask: Bool[Array, "*batch length"] | None,
) -> Tokens:
  """Check shapes, blank out masked keys, and put heads first.

  Raises:
    ValueError: shapes that do not fit the encoding.
  """
  expected = (encoding.num_heads, encoding.head_dim)
  if q.shape[-2:] != expected or k.shape != q.shape:
    raise ValueError(
      f"q has shape {q.shape} and k {k.shape}; both must be "
      f"[..., length, {expected[0]}, {expected[1]}] for this encoding."
    )
  if v.shape[:-1] != q.shape[:-1]:
    raise ValueError(
      f"v has shape {v.shape}; it must be [..., value] with the leading "
      f"dimensions {q.shape[:-1]} of q."
    )
  length, batch = q.shape[-3], q.shape[:-3]
  coords = canonical_positions(
    positions, length=length, coord_dim=encoding.coord_dim
  )
  if encoding.integer_positions and not jnp.issubdtype(
    coords.dtype, jnp.integer
  ):
    raise ValueError(
      f"positions are {coords.dtype}, but encoding {encoding.name!r} "
      "is a table, window or noise over whole steps; pass integers, or "
      "use 'flt' for real coordinates."
    )
  if key_mask is None:
    valid = jnp.ones((*batch, length), bool)
  else:
    valid = jnp.broadcast_to(key_mask, (*batch, length))
    keep = valid[..., None, None]
    k, v = jnp.where(keep, k, 0), jnp.where(keep, v, 0)
  dtype = work_dtype(q, k, v)
  q, k, v = (jnp.moveaxis(x.astype(dtype), -2, -3) for x in (q, k, v))
  return Tokens(q, k, v, coords, valid, positions is not None)


def log_features(
  encoding: Encoding,
  features: FeatureMap,
  params: Params,
  tokens: Tokens,
  projection: Float[Array, "heads features dim"] | None,
) -> tuple[Array, Array]:
  """Return log features of encoded queries and keys."""
  learned = params.get("feature_map", {})
  q = encoding.queries(params, tokens.q, tokens.positions)
  k = encoding.keys(params, tokens.k, tokens.positions)
  return (
    features.log_features(learned, q, projection=projection),
    features.log_features(learned, k, projection=projection),
  )


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
  num_features: int | None,
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
