"""Tokens: what the controller sees of one tensor at one step.

All are ratios, cosines or shapes, so the scale of the loss drops out, and
all are clipped to [-1, 1], so that they stay in the range of meta-training.
Logarithms of ratios are natural and divided by their range.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flt_lopt import clock as clock_lib

TINY = 1e-30


class Statistics(NamedTuple):
  """Mean products over each tensor, of the step before; zeros at first.

  With the root second moment as unit: `gradient` g, `fast` and `slow` the
  first and second readings of the memory, `nominal` the hand-designed
  direction, `direction` the learned one. `parameter` is the mean square of
  the parameter, `update` that of the last update.
  """

  gradient: Float[Array, "tensors"]
  fast: Float[Array, "tensors"]
  slow: Float[Array, "tensors"]
  gradient_fast: Float[Array, "tensors"]
  fast_slow: Float[Array, "tensors"]
  nominal: Float[Array, "tensors"]
  direction: Float[Array, "tensors"]
  nominal_direction: Float[Array, "tensors"]
  parameter: Float[Array, "tensors"]
  update: Float[Array, "tensors"]


def init_statistics(num_tensors: int, dtype) -> Statistics:
  """Returns the statistics before the first step."""
  zeros = [jnp.zeros(num_tensors, dtype) for _ in Statistics._fields]
  return Statistics(*zeros)


def cosine(product, square, other_square):
  """Returns a.b / (|a| |b|), 0 where either is 0."""
  return product / jnp.sqrt(square * other_square + TINY)


def _log_root(square, spread: float):
  return 0.5 * jnp.log(square + TINY) / spread


def shape_features(tensors, dtype) -> Float[Array, "tensors 3"]:
  """Returns rank (-1, 0, or 1 from 2 axes on), log fan-in, log fan-out."""
  rows = []
  for tensor in tensors:
    shape = tensor.shape
    fan_out = shape[-1] if shape else 1
    fan_in = tensor.size // max(fan_out, 1)
    rows.append(
      [
        min(len(shape), 2) - 1.0,
        np.log1p(fan_in) / 10.0,
        np.log1p(fan_out) / 10.0,
      ]
    )
  return jnp.asarray(np.reshape(rows, (len(rows), 3)), dtype)


NUM_TOKENS = 7 + clock_lib.NUM_FEATURES + 3


def tokens(
  stats: Statistics, shapes: Float[Array, "tensors 3"], clock
) -> Float[Array, "tensors tokens"]:
  """Returns the token of every tensor, in [-1, 1]."""
  relative = _log_root(stats.update, 5.0) - _log_root(stats.parameter, 5.0)
  history = [
    _log_root(stats.gradient, 3.0),
    _log_root(stats.fast, 3.0),
    _log_root(stats.slow, 3.0),
    cosine(stats.gradient_fast, stats.gradient, stats.fast),
    cosine(stats.fast_slow, stats.fast, stats.slow),
    cosine(stats.nominal_direction, stats.nominal, stats.direction),
    relative + 1.0,
  ]
  started = (clock.count > 0).astype(shapes.dtype)
  seen = jnp.clip(jnp.stack(history, -1), -1.0, 1.0) * started
  now = clock_lib.features(clock)
  now = jnp.broadcast_to(now[None, :], (shapes.shape[0], now.shape[0]))
  return jnp.concatenate([seen, now, jnp.clip(shapes, -1.0, 1.0)], -1)
