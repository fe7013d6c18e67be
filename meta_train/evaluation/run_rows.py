"""From training curves to rows: one row a run.

A row holds final losses and measures, the loss at the start and the smoothed
one at the end, and the curve, averaged over blocks of steps. The lower
envelope of a grid of learning rates is a row of its own, without a seed.

Names: `curve_rows`, `envelope_row`, `cost`, `FORMAT`.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from meta_train.evaluation.candidates import Candidate, Variant
from meta_train.evaluation.curves import Curves
from meta_train.evaluation.measures import smoothing
from meta_train.rows import Row

FORMAT = 3
# Curves are averaged over consecutive steps down to at most so many points.
MAX_CURVE_POINTS = 200


def points_of(num_steps: int) -> int:
  """Returns the steps that a point of a curve averages."""
  return -(-num_steps // MAX_CURVE_POINTS)


def _short(values: Float[np.ndarray, "points"]) -> list[float]:
  return [float(f"{value:.5g}") for value in values]


def thin(curve: Float[np.ndarray, "steps"]) -> tuple[list[float], int]:
  """Averages a curve over blocks of steps; also returns the block's size."""
  every = points_of(len(curve))
  means = [curve[i : i + every].mean() for i in range(0, len(curve), every)]
  return _short(np.asarray(means)), every


def curve_rows(
  common: Mapping[str, Any],
  variants: Sequence[Variant],
  seeds: Sequence[int],
  curves: Curves,
) -> Iterator[Row]:
  """Yields one row per run.

  Args:
    common: fields of all rows.
    variants: what the first axis of the curves is.
    seeds: numbers of the runs along the second.
    curves: what was measured.
  """
  losses, diverged = np.asarray(curves.losses), np.asarray(curves.diverged)
  final = jax.tree.map(np.asarray, curves.final)
  last = smoothing.last_loss(losses)
  for (i, variant), (j, seed) in itertools.product(
    enumerate(variants), enumerate(seeds)
  ):
    broken = ~np.isfinite(losses[i, j])
    curve, every = thin(losses[i, j])
    yield {
      **common,
      **variant._asdict(),
      "seed": seed,
      "final": {
        split: {
          measure: float(values[i, j]) for measure, values in measures.items()
        }
        for split, measures in final.items()
      },
      "first_loss": float(losses[i, j, 0]),
      "last_loss": float(last[i, j]),
      "diverged": bool(diverged[i, j]),
      "diverged_at": int(broken.argmax()) if broken.any() else None,
      "curve_every": every,
      "curve": curve,
    }


def envelope_row(
  common: Mapping[str, Any],
  optimizer: str,
  curves: Curves,
  seeds: Sequence[int],
) -> Row:
  """Returns the row of the lower envelope of a grid of learning rates.

  Args:
    common: fields of all rows.
    optimizer: whose grid it is.
    curves: of all rates and seeds, with the steps beyond the measurement.
    seeds: numbers of the runs, which the row tells.
  """
  losses = np.asarray(curves.losses)
  every = points_of(losses.shape[-1])
  if curves.beyond is not None:
    losses = np.concatenate([losses, np.asarray(curves.beyond)], axis=-1)
  # Points are at the ends of blocks, where a curve's blocks end too.
  least = smoothing.FRACTION * curves.losses.shape[-1]
  envelope = smoothing.envelope(losses, least=least)[every - 1 :: every]
  return {
    **common,
    **Variant(optimizer, "envelope")._asdict(),
    "seed": None,
    "seeds": list(seeds),
    "final": {},
    "curve_every": every,
    "curve": _short(envelope),
  }


def cost(task: Any, candidate: Candidate, num_steps: int) -> dict[str, int]:
  """Returns parameters of a task and bytes of an optimizer's state.

  Args:
    task: the task.
    candidate: the optimizer.
    num_steps: inner steps of a run.
  """
  params, _ = jax.eval_shape(
    task.init_with_state, jax.eval_shape(lambda: jax.random.key(0))
  )
  one = jax.tree.map(lambda x: x[0], candidate.hyper)
  state = jax.eval_shape(
    lambda params: candidate.make_tx(one, num_steps).init(params), params
  )

  def size(tree, weight):
    return sum(math.prod(x.shape) * weight(x) for x in jax.tree.leaves(tree))

  return {
    "parameters": size(params, lambda x: 1),
    "state_bytes": size(state, lambda x: x.dtype.itemsize),
  }
