"""One function for all forms: `attend`.

  dense      O(n^2)        any encoding, causal or not; the reference
  parallel   O(n log n)    bidirectional; causal too for Toeplitz masks
  chunked    O(n)          causal, for training
  recurrent  O(n)          causal, token by token; see `StreamingAttention`

Names: `attend`, `prefill`, `init_attention`, `FORMS`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from flt_lopt.attention.encodings.base import Encoding, Params
from flt_lopt.attention.feature_maps import FeatureMap
from flt_lopt.attention.forms.causal import State, scan_chunks
from flt_lopt.attention.forms.dense import dense
from flt_lopt.attention.forms.parallel import parallel
from flt_lopt.attention.forms.tokens import (
  check_form,
  init_params,
  make_tokens,
  resolve_feature_map,
)
from flt_lopt.attention.registry import suggest

FORMS = ("dense", "parallel", "chunked", "recurrent")


def init_attention(
  key: jax.Array,
  encoding: Encoding,
  *,
  feature_map: str | FeatureMap = "favor_plus",
  num_features: int | None = 64,
) -> Params:
  """Return the parameters that `attend` takes.

  Args:
    key: typed random key.
    encoding: from `make_encoding`.
    feature_map: a registry name or a feature map.
    num_features: M, used if `feature_map` is a name.
  """
  features = resolve_feature_map(
    feature_map, encoding, num_features=num_features
  )
  return init_params(encoding, features, key)


def attend(
  params: Params,
  q: Float[Array, "*batch length heads dim"],
  k: Float[Array, "*batch length heads dim"],
  v: Float[Array, "*batch length heads value"],
  *,
  encoding: Encoding,
  causal: bool,
  form: str = "auto",
  feature_map: str | FeatureMap = "favor_plus",
  num_features: int | None = 64,
  seed: int = 0,
  positions: Num[Array, "..."] | None = None,
  key_mask: Bool[Array, "*batch length"] | None = None,
  chunk_size: int = 16,
  projection: Float[Array, "heads features dim"] | None = None,
) -> Float[Array, "*batch length heads value"]:
  """Self-attention with a relative positional encoding.

  y_t = sum_j A_tj v_j / sum_j |A|_tj over j <= t if causal, with
  A_tj = kappa(q'_t, k'_j) h(r_t - r_j), q' and k' the encoded queries and
  keys and |A| the mass: A itself unless the mask h changes sign.

  Args:
    params: from `init_attention` (or the encoding's `init`).
    q: queries.
    k: keys.
    v: values.
    encoding: from `make_encoding`.
    causal: whether a token sees only itself and the past.
    form: "dense", "parallel", "chunked", "recurrent", or "auto": chunked
      (parallel where there is none) if causal, else parallel (dense where
      there is none).
    feature_map: a registry name or a feature map. "softmax" is the exact
      kernel, for the dense form.
    num_features: M, used if `feature_map` is a name.
    seed: of the constant random projection, if `feature_map` is a name.
    positions: `None` for 0, 1, 2, ...; else `[length]` or
      `[..., length, coords]`, integers (exact phases) or floats of O(1).
    key_mask: `False` for keys that do not count, padding for instance;
      their content is never looked at. A row without keys gives zeros.
    chunk_size: tokens per chunk of the chunked form.
    projection: replaces the constant projection, see `FeatureMap.redraw`.

  Returns:
    Attention outputs in the dtype of `v`.

  Raises:
    ValueError: an unknown form, one that the encoding can't have, or
      shapes that do not fit; the message names the alternative.

  Example:
    >>> encoding = make_encoding("flt_lines", num_heads=2, head_dim=8)
    >>> params = init_attention(jax.random.key(0), encoding)
    >>> y = attend(params, q, k, v, encoding=encoding, causal=True)
  """
  if form == "auto":
    form = _choose(encoding, causal)
  if form not in FORMS:
    raise ValueError(
      f"Unknown form {form!r}. Valid forms: auto, {', '.join(FORMS)}."
      f"{suggest(form, FORMS)}"
    )
  check_form(encoding, form)
  if form in ("chunked", "recurrent") and not causal:
    raise ValueError(
      f"causal=False: the {form} form is causal; use form='parallel', "
      "or 'dense'."
    )
  features = resolve_feature_map(
    feature_map, encoding, num_features=num_features, seed=seed
  )
  tokens = make_tokens(
    encoding, q, k, v, positions=positions, key_mask=key_mask
  )
  if form in ("dense", "parallel"):
    function = {"dense": dense, "parallel": parallel}[form]
    out = function(
      encoding,
      features,
      params,
      tokens,
      causal=causal,
      projection=projection,
    )
  else:
    _, out = scan_chunks(
      encoding,
      features,
      params,
      tokens,
      chunk_size=chunk_size if form == "chunked" else 1,
      projection=projection,
    )
  return jnp.moveaxis(out, -3, -2).astype(v.dtype)


def prefill(
  params: Params,
  q: Float[Array, "*batch length heads dim"],
  k: Float[Array, "*batch length heads dim"],
  v: Float[Array, "*batch length heads value"],
  *,
  encoding: Encoding,
  state: State | None = None,
  feature_map: str | FeatureMap = "favor_plus",
  num_features: int | None = 64,
  seed: int = 0,
  positions: Num[Array, "..."] | None = None,
  key_mask: Bool[Array, "*batch length"] | None = None,
  chunk_size: int = 16,
) -> tuple[State, Float[Array, "*batch length heads value"]]:
  """Attend causally to a sequence and return the state to stream on from.

  Args and errors as `attend`; `state` goes on from an earlier call (then
  pass positions that go on too).

  Returns:
    The state, as `StreamingAttention.step` takes it, and the outputs.
  """
  check_form(encoding, "recurrent")
  features = resolve_feature_map(
    feature_map, encoding, num_features=num_features, seed=seed
  )
  tokens = make_tokens(
    encoding, q, k, v, positions=positions, key_mask=key_mask
  )
  state, out = scan_chunks(
    encoding,
    features,
    params,
    tokens,
    state=state,
    chunk_size=chunk_size,
  )
  return state, jnp.moveaxis(out, -3, -2).astype(v.dtype)


def _choose(encoding: Encoding, causal: bool) -> str:
  order = ("chunked", "parallel") if causal else ("parallel",)
  return next((f for f in order if f in encoding.forms), "dense")
