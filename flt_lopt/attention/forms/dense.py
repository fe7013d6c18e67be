"""The dense form: all pairs, the reference for every mechanism.

With the feature map "softmax" it is the ideal that the linear forms
approximate: exact kernel, closed-form f, closed-form mask. With any other map
it is, term by term, what the linear forms compute.

Names: `dense`.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from flt_lopt.attention.encodings.base import (
  Encoding,
  Params,
  pairwise_lags,
)
from flt_lopt.attention.feature_maps.base import (
  FeatureMap,
  log_kernel_from_features,
)
from flt_lopt.attention.forms.partial import dense_partial, finish
from flt_lopt.attention.forms.tokens import Tokens, log_features


def dense(
  encoding: Encoding,
  features: FeatureMap,
  params: Params,
  tokens: Tokens,
  *,
  causal: bool,
  projection: Float[Array, "heads features dim"] | None = None,
) -> Float[Array, "*batch heads length value"]:
  """Attend through the full matrix: O(length^2) time and memory.

  Raises:
    ValueError: the encoding defines logits only, and the map is not
      "softmax".
  """
  if features.finite and encoding.logits_only:
    raise ValueError(
      f"Encoding {encoding.name!r} can't use the features of "
      f"{features.name!r}. {encoding.alternative}"
    )
  lags = pairwise_lags(tokens.positions, tokens.positions)
  if features.finite:
    log_q, log_k = log_features(encoding, features, params, tokens, projection)
    log_kernel = log_kernel_from_features(log_q, log_k)
    mask = encoding.mask(params, lags)
  else:
    log_kernel = encoding.logits(
      params, tokens.q, tokens.k, tokens.positions, tokens.positions
    )
    mask = encoding.ideal_mask(params, lags)
  allowed = tokens.valid[..., None, None, :]
  if causal:
    length = tokens.length
    allowed = allowed & jnp.tril(jnp.ones((length, length), bool))
  partial = dense_partial(log_kernel, mask, tokens.v, allowed)
  return finish(partial, normalised=encoding.normalised)
