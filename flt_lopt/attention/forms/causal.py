"""The causal forms over a sequence: chunked and, one by one, recurrent.

The sequence is cut into chunks. A chunk reads the state of all earlier ones
through matrix products, attends to itself pair by pair, and is absorbed. All
references are maxima over the past, so a future outlier changes nothing, and
only the states between chunks are kept for the backward pass. Chunks of one
token are the recurrent form.

Names: `scan_chunks`, `Memory`, `memory_of`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flt_lopt.attention.encodings.base import Encoding, Params
from flt_lopt.attention.feature_maps.base import FeatureMap
from flt_lopt.attention.forms import stream, window
from flt_lopt.attention.forms.partial import finish
from flt_lopt.attention.forms.tokens import Tokens, log_features

# A `StreamState` or a `WindowState`.
State = Any


class Memory(NamedTuple):
  """How a causal form remembers."""

  empty: Callable[..., State]
  advance: Callable[..., Any]


def memory_of(encoding: Encoding) -> Memory:
  """Return the kind of memory that an encoding needs."""
  if encoding.window is None:
    return Memory(stream.empty, stream.advance)
  return Memory(window.empty, window.advance)


def scan_chunks(
  encoding: Encoding,
  features: FeatureMap,
  params: Params,
  tokens: Tokens,
  *,
  state: State | None = None,
  chunk_size: int = 16,
  projection: Float[Array, "heads features dim"] | None = None,
) -> tuple[State, Float[Array, "*batch heads length value"]]:
  """Attend causally, chunk by chunk: O(length) time.

  Args:
    encoding: an encoding with poles, a window, or no mask.
    features: feature map.
    params: parameters of both.
    tokens: from `make_tokens`.
    state: where to go on from; `None` starts a stream.
    chunk_size: tokens per chunk. Pairs within a chunk cost
      chunk_size * features exponentials per token.
    projection: replaces the feature map's constant one.

  Returns:
    The state after the last token, and the outputs.
  """
  log_q, log_k = log_features(encoding, features, params, tokens, projection)
  memory, poles = memory_of(encoding), encoding.poles(params)
  if state is None:
    state = memory.empty(
      encoding,
      poles,
      features.num_features,
      tokens.v.shape[-1],
      batch_shape=tokens.batch_shape,
      position_batch=tokens.positions.shape[:-2],
      dtype=log_k.dtype,
    )
  length = tokens.length
  if length == 0:
    return state, tokens.v
  size = min(chunk_size, length)

  # No padding: it would push tokens out of a window.
  whole = length - length % size

  @jax.checkpoint
  def body(state, chunk):
    state, partial = memory.advance(encoding, params, poles, state, *chunk)
    return state, finish(partial, normalised=encoding.normalised)

  arrays = (log_q, log_k, tokens.v, tokens.positions, tokens.valid)
  axes = (-2, -2, -2, -2, -1)
  chunks = tuple(_chunks(x, a, size, whole) for x, a in zip(arrays, axes))
  state, out = jax.lax.scan(body, state, chunks)
  out = jnp.moveaxis(out, 0, -3)
  out = out.reshape(*out.shape[:-3], whole, out.shape[-1])
  if whole < length:
    rest = tuple(
      jax.lax.slice_in_dim(x, whole, length, axis=a % x.ndim)
      for x, a in zip(arrays, axes)
    )
    state, tail = body(state, rest)
    out = jnp.concatenate([out, tail], axis=-2)
  return state, out


def _chunks(x: Array, axis: int, size: int, whole: int) -> Array:
  """Cut an axis into chunks and move their index to the front."""
  axis = axis % x.ndim
  x = jax.lax.slice_in_dim(x, 0, whole, axis=axis)
  shape = (*x.shape[:axis], -1, size, *x.shape[axis + 1 :])
  return jnp.moveaxis(x.reshape(shape), axis, 0)
