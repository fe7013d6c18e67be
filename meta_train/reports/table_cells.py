"""Numbers of a suite as the text of a table's cell.

Names: `number`, `ratio`, `interval`, `failed`, `failed_briefly`, `share`,
`ends_of_share`, `sure`, `worst`, `FAILED`.
"""

import numpy as np

from meta_train.evaluation.measures.aggregate import Estimate
from meta_train.evaluation.scores import Score

#: What counts as failed, for notes.
FAILED = (
  "Failed: ended badly (diverged, or ended above the loss that it began with), "
  "or blew up on the way (after 5 % of the steps its curve rose above twice "
  "that loss, and for a negative loss b above b + |b|). "
)


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
  if not estimate.has_interval:
    return f"{'at least ' if is_bound else ''}{value}"
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


def failed_briefly(score: Score) -> str:
  """Returns how many runs ended badly and blew up, for a narrow column."""
  found = score.failures
  return f"{found.ended_badly} / {found.blew_up} of {score.num_runs}"


def sure(score: Score) -> str:
  """Returns sure wins and losses, or why there can't be any."""
  if not score.false_sure:
    return "too few seeds"
  return f"{score.sure_wins} / {score.sure_losses}"


def worst(score: Score) -> str:
  """Returns the ratio on the worst task, or why it is 0, and the task."""
  if not score.worst_task:
    return "none"
  what = ratio(score.worst_ratio)
  if score.worst_diverged:
    what = "diverged"
  elif score.worst_ratio == 0.0:
    what = f"{score.other} at 0"
  return f"{what}, {score.worst_task}"


def share(estimate: Estimate | None) -> str:
  """Returns a share of tasks, in percent, with its interval."""
  if estimate is None:
    return "none"
  value = f"{100 * estimate.value:.0f} %"
  if not estimate.has_interval:
    return value
  return f"{value} ({ends_of_share(estimate)})"


def ends_of_share(estimate: Estimate | None) -> str:
  """Returns the ends of the interval of a share, in percent."""
  if estimate is None or not estimate.has_interval:
    return "none"
  return f"{100 * estimate.low:.0f} to {100 * estimate.high:.0f}"
