"""Numbers of a suite as the text of a table's cell.

Names: `number`, `ratio`, `interval`, `failed`, `share`.
"""

import numpy as np

from meta_train.evaluation.measures.aggregate import Estimate
from meta_train.evaluation.scores import Score


def number(value: float | None, *, infinite: str = "diverged") -> str:
  """Returns a loss as text; `infinite` stands for one that is."""
  if value is None or np.isnan(value):
    return "none"
  return infinite if np.isinf(value) else f"{value:.3g}"


def ratio(value: float | None) -> str:
  """Returns a ratio as text."""
  return number(value, infinite="infinite")


def interval(estimate: Estimate | None, *, is_bound: bool = False) -> str:
  """Returns a number with its interval; of a lower bound, with the lower end.

  Args:
    estimate: the number; `None` where there is none.
    is_bound: whether it is only known to be at least that large.
  """
  if estimate is None:
    return "none"
  value, low, high = (_plain(x) for x in estimate)
  if np.isinf(estimate.low):
    return value
  if is_bound or np.isinf(estimate.value):
    return f"{'at least ' if is_bound else ''}{value} (from {low})"
  return f"{value} ({low} to {high})"


def _plain(value: float) -> str:
  if np.isinf(value):
    return "infinite"
  return f"{value:.2f}" if 0.1 <= value < 100 else f"{value:.2g}"


def failed(score: Score) -> str:
  """Returns how many runs failed, and how."""
  found = score.failures
  text = f"{found.total} of {score.num_runs}"
  if not found.total:
    return text
  return (
    f"{text} ({found.ended_badly} ended badly, {found.blew_up} blew up on the "
    "way)"
  )


def share(estimate: Estimate | None) -> str:
  """Returns a share of tasks, in percent, with its interval."""
  if estimate is None:
    return "none"
  value, low, high = (100 * x for x in estimate)
  return f"{value:.0f} % ({low:.0f} to {high:.0f})"
