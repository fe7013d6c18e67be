"""What outer steps tell, added up between two rows of metrics.jsonl.

The sums are part of each checkpoint, so that a run which stopped between two
rows writes the same next row as one that did not.

Main names: `Meter`, `add`, `row`, `shares_left_out`, `left_out`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from meta_train.engine.outer_state import StepMetrics

_MEANS = tuple(
  name
  for name in StepMetrics._fields
  if name not in ("grad_snr", "skipped") and not name.startswith("famil")
)


class Meter(NamedTuple):
  """Sums over outer steps; plain arrays, so a checkpoint can hold them.

  Attributes:
    steps: how many outer steps.
    skipped: how many of them were skipped.
    sums: of each scalar of `StepMetrics`, where it is finite, and last of
      the square norm of the gradient.
    counts: how many were finite.
    visits: of each family.
    losses: of each family, over its visits.
    diverged: share of diverged copies of each family, over its visits.
  """

  steps: np.ndarray
  skipped: np.ndarray
  sums: np.ndarray
  counts: np.ndarray
  visits: np.ndarray
  losses: np.ndarray
  diverged: np.ndarray


def empty(num_families: int) -> Meter:
  """Returns a meter of no outer steps."""
  scalars, families = len(_MEANS) + 1, num_families
  return Meter(
    *(np.zeros((), np.int64) for _ in range(2)),
    *(np.zeros(scalars) for _ in range(2)),
    *(np.zeros(families) for _ in range(3)),
  )


def add(meter: Meter, metrics: StepMetrics) -> Meter:
  """Returns the sums with one more outer step."""
  values = [float(getattr(metrics, name)) for name in _MEANS]
  scalars = np.array([*values, metrics.grad_norm**2])
  finite = np.isfinite(scalars)
  visits, losses, diverged = (x.copy() for x in meter[-3:])
  visited = list(metrics.families)
  visits[visited] += 1
  losses[visited] += metrics.family_losses
  diverged[visited] += metrics.family_diverged
  return Meter(
    steps=meter.steps + 1,
    skipped=meter.skipped + int(metrics.skipped),
    sums=meter.sums + np.where(finite, scalars, 0.0),
    counts=meter.counts + finite,
    visits=visits,
    losses=losses,
    diverged=diverged,
  )


def row(meter: Meter, names: Sequence[str]) -> dict[str, Any]:
  """Returns the means as columns of a row.

  The meta-loss counts each family that was visited once, however often it
  was. The signal-to-noise ratio is that of sums: see
  `meta_train.engine.shares`.

  Args:
    meter: the sums.
    names: of the families.
  """
  with np.errstate(invalid="ignore", divide="ignore"):
    means = meter.sums / meter.counts
    losses = meter.losses / meter.visits
    diverged = meter.diverged / meter.visits
    columns = dict(zip(_MEANS, map(float, means)))
    columns["grad_snr"] = float(means[-1] / columns["grad_variance"] - 1.0)
  seen = meter.visits > 0
  if np.any(seen):
    columns["meta_loss"] = float(np.mean(losses[seen]))
    columns["diverged_fraction"] = float(np.mean(diverged[seen]))
  columns["skipped"] = int(meter.skipped)
  # Families may share a name: the number tells them apart then.
  unique = [
    name if names.count(name) == 1 else f"{name}#{number}"
    for names in [list(names)]
    for number, name in enumerate(names)
  ]
  for number, name in enumerate(unique):
    columns[f"meta_loss/{name}"] = float(losses[number])
    columns[f"diverged/{name}"] = float(diverged[number])
  return columns


def shares_left_out(rows: Sequence[Mapping[str, Any]]) -> tuple[int, float]:
  """Returns what a run could not use, or not as it was.

  Args:
    rows: all rows of the run.

  Returns:
    The outer steps that were skipped, and the share of the tasks' estimates
    that were limited or dropped.
  """
  skipped, limited, last = 0, 0.0, 0.0
  for each in rows:
    now, more, share = (
      value if isinstance(value := each.get(name), int | float) else 0
      for name in ("outer_step", "skipped", "grad_limited")
    )
    skipped += int(more)
    limited += (now - last) * share
    last = now
  return skipped, limited / max(last, 1)


def left_out(rows: Sequence[Mapping[str, Any]]) -> str:
  """Returns `shares_left_out` as a sentence; empty where there is nothing."""
  skipped, limited = shares_left_out(rows)
  sentences = [
    f"{skipped} outer steps were skipped, since the meta-gradient was not "
    "finite"
    if skipped
    else "",
    f"{limited:.2%} of the tasks' estimates had their norm limited, or were "
    "dropped"
    if limited
    else "",
  ]
  return "; ".join(filter(None, sentences))
