"""The parallel form: all tokens at once, without the matrix.

Without a mask, or with an undamped one, the keys are summed once and read by
all queries: O(n). A mask that depends on the integer lag is Toeplitz and is
applied by FFT (circulant embedding): O(n log n), causal or not. An FFT's
error is relative to its largest output, and a future value V leaks about
1e-7 V into the past.
Source: Luo et al., Stable, Fast and Accurate: Kernelized Attention with
Relative Positional Encoding, 2021 (the FFT).

Names: `parallel`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flt_lopt.attention.encodings.base import Encoding, Params
from flt_lopt.attention.feature_maps.base import FeatureMap
from flt_lopt.attention.forms import stream
from flt_lopt.attention.forms.partial import Partial, finish
from flt_lopt.attention.forms.tokens import Tokens, log_features
from flt_lopt.attention.numerics import NEGATIVE, einsum

# Below this share of the largest possible mass, an FFT returns only noise.
_FFT_FLOOR = 1e-9


def parallel(
  encoding: Encoding,
  features: FeatureMap,
  params: Params,
  tokens: Tokens,
  *,
  causal: bool,
  projection: Float[Array, "heads features dim"] | None = None,
) -> Float[Array, "*batch heads length value"]:
  """Attend to all tokens at once.

  Raises:
    ValueError: causal without a Toeplitz mask, or a Toeplitz mask at
      explicit positions; the message names the alternative.
  """
  log_q, log_k = log_features(encoding, features, params, tokens, projection)
  if encoding.toeplitz:
    if tokens.explicit:
      raise ValueError(
        f"The parallel form of encoding {encoding.name!r} is an FFT "
        "over consecutive steps; pass positions=None, or use "
        "form='dense' (or a causal form) for explicit positions."
      )
    partial = _by_fft(encoding, params, tokens, log_q, log_k, causal)
    return finish(partial, normalised=encoding.normalised)
  if causal:
    raise ValueError(
      f"The parallel form of encoding {encoding.name!r} sums over all "
      "tokens and can't be causal; use form='chunked'."
    )
  poles = encoding.poles(params)
  if tokens.length == 0:
    return tokens.v
  state = stream.empty(
    encoding,
    poles,
    features.num_features,
    tokens.v.shape[-1],
    batch_shape=tokens.batch_shape,
    position_batch=tokens.positions.shape[:-2],
    dtype=log_k.dtype,
  )
  state = stream.absorb(
    state,
    poles,
    log_k,
    tokens.v,
    tokens.positions,
    valid=tokens.valid,
    damped=False,
  )
  partial = stream.read(state, poles, log_q, tokens.positions, moved=False)
  return finish(partial, normalised=encoding.normalised)


def _by_fft(
  encoding: Encoding,
  params: Params,
  tokens: Tokens,
  log_q: Array,
  log_k: Array,
  causal: bool,
) -> Partial:
  """Apply the Toeplitz mask to phi(k) [v, 1] by circulant embedding."""
  length = tokens.length
  if length == 0:
    zero = tokens.v[..., 0]
    return Partial(zero, zero, tokens.v)
  keep = tokens.valid[..., None, :, None]
  logs = jnp.where(keep, log_k, NEGATIVE)
  top_k = jax.lax.stop_gradient(jnp.max(logs, axis=-2, keepdims=True))
  phi_k = jnp.where(keep, jnp.exp(logs - top_k), 0.0)
  outer = phi_k[..., None] * tokens.v[..., None, :]
  lags = jnp.arange(1 - length, length, dtype=jnp.int32)
  mask = encoding.mask(params, lags[:, None])
  assert mask is not None
  log_mass = mask.log_mass.T
  if causal:
    log_mass = jnp.where(lags >= 0, log_mass, NEGATIVE)
  top_h = jax.lax.stop_gradient(jnp.max(log_mass, axis=-1, keepdims=True))
  mass = jnp.exp(log_mass - top_h)
  total = toeplitz_product(mass[:, :, None], phi_k)
  signed = mass if mask.ratio is None else mass * mask.ratio.T
  value = toeplitz_product(signed[:, :, None, None], outer, axis=-3)
  scores = log_q + top_k
  top = jax.lax.stop_gradient(jnp.max(scores, axis=-1))
  weight = jnp.exp(scores - top[..., None])
  return Partial(
    top + top_h,
    jnp.maximum(einsum("...nm,...nm->...n", weight, total), _FFT_FLOOR),
    einsum("...nm,...nmv->...nv", weight, value),
  )


def toeplitz_product(
  kernel: Float[Array, "..."], x: Float[Array, "..."], *, axis: int = -2
) -> Float[Array, "..."]:
  """Return y_t = sum_j kernel[t - j + n - 1] x_j by FFT.

  Args:
    kernel: lags -(n - 1), ..., n - 1 along `axis`; broadcasts to `x`
      along the others.
    x: n terms along `axis`.
    axis: counted from the end.
  """
  length = x.shape[axis]
  # Circular wrap-around only reaches outputs that are cut off.
  size = fast_length(2 * length - 1)
  spectrum = jnp.fft.rfft(kernel, size, axis=axis)
  product = spectrum * jnp.fft.rfft(x, size, axis=axis)
  y = jnp.fft.irfft(product, size, axis=axis)
  y = jax.lax.slice_in_dim(y, length - 1, 2 * length - 1, axis=axis % y.ndim)
  return y.astype(x.dtype)


def fast_length(length: int) -> int:
  """Return the least 2^a 3^b 5^c that is at least `length`."""
  best = 1
  while best < length:
    best *= 2
  for three in (1, 3, 9, 27):
    for five in (1, 5, 25):
      size = three * five
      while size < length:
        size *= 2
      best = min(best, size)
  return best
