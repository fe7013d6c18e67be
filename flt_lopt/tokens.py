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
from flt_lopt import progress as progress_lib
from flt_lopt import roles

TINY = 1e-30
NUM_PLACES = 4
NUM_TOKENS = 6 + clock_lib.NUM_FEATURES + NUM_PLACES


class Statistics(NamedTuple):
  """What is known of each tensor from the step before; zeros at first.

  Attributes:
    second: mean second moment, in units of the tensor's scale squared.
    direction: mean square of the direction.
    projection: of the nominal reading on the direction, in units of the
      gradient: how much of it is signal.
    update: mean square of the last update.
  """

  second: Float[Array, "tensors"]
  direction: Float[Array, "tensors"]
  projection: Float[Array, "tensors"]
  update: Float[Array, "tensors"]


def init_statistics(num_tensors: int, dtype) -> Statistics:
  """Returns the statistics before the first step."""
  zeros = [jnp.zeros(num_tensors, dtype) for _ in Statistics._fields]
  return Statistics(*zeros)


def _log_root(square, spread: float):
  return 0.5 * jnp.log(square + TINY) / spread


def places(tensors, dtype) -> Float[Array, "tensors places"]:
  """Returns where tensors stand: rank, log fan-in, log fan-out, depth.

  The rank is -1 for scalars, 1 from 2 axes on, and else 0, as for ENTRIES
  (`flt_lopt.roles`); the depth runs from -1 to 1 in the order of the leaves.
  """
  rows = []
  for number, tensor in enumerate(tensors):
    shape = tensor.shape
    # Of a stack of matrices with their outputs first those come second.
    first = 1 if len(shape) == 3 else 0
    output = first if tensor.role == roles.OUTPUT_FIRST else -1
    fan_out = shape[output] if shape else 1
    fan_in = tensor.size // max(fan_out, 1)
    rank = min(len(shape), 2) - 1.0
    rows.append(
      [
        min(rank, 0.0) if tensor.role == roles.ENTRIES else rank,
        min(np.log1p(fan_in) / 10.0, 1.0),
        min(np.log1p(fan_out) / 10.0, 1.0),
        2.0 * number / max(len(tensors) - 1, 1) - 1.0,
      ]
    )
  return jnp.asarray(np.reshape(rows, (len(rows), NUM_PLACES)), dtype)


def tokens(
  stats: Statistics,
  *,
  surprise: Float[Array, "tensors"],
  parameter: Float[Array, "tensors"],
  where: Float[Array, "tensors places"],
  progress: progress_lib.Progress,
  clock: clock_lib.Clock,
) -> Float[Array, "tensors tokens"]:
  """Returns the token of every tensor, in [-1, 1].

  Args:
    stats: of the step before.
    surprise: log of the gradient's size over the root second moment.
    parameter: mean square of the parameters.
    where: from `places`.
    progress: of the loss.
    clock: of this step.
  """
  relative = _log_root(stats.update, 5.0) - _log_root(parameter, 5.0)
  # Of parameters whose squares are infinite it is not known.
  relative = jnp.where(jnp.isfinite(relative), relative, -1.0)
  history = [
    surprise / 3.0,
    _log_root(stats.direction, 3.0),
    stats.projection,
    relative + 1.0,
  ]
  started = (clock.count > 0).astype(where.dtype)
  seen = jnp.clip(jnp.stack(history, -1), -1.0, 1.0) * started
  loss = [progress_lib.trend(progress), progress_lib.is_known(progress)]
  now = jnp.concatenate([jnp.stack(loss), clock_lib.features(clock)])
  now = jnp.broadcast_to(now[None, :], (where.shape[0], now.shape[0]))
  return jnp.concatenate([seen, now, where], -1)
