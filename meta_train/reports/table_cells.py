"""Numbers of a suite as cells of a table.

Names: `number`, `ratio`, `interval`, `of`, `failed`, `failed_briefly`, `share`,
`ends_of_share`, `counts`, `sure`, `worst`, `count_of_tasks`, `no_ratio`,
`FAILED`.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from meta_train.evaluation.measures.aggregate import Estimate
from meta_train.evaluation.scores import Score
from meta_train.reports.tables import Cell

#: What counts as failed, for notes.
FAILED = (
  "Failed: ended badly (diverged, or ended above the loss that it began with), "
  "or blew up on the way (after 5 % of the steps its curve rose above twice "
  "that loss, and for a negative loss b above b + |b|). "
)


def number(value: float | None, *, infinite: str = "diverged") -> Cell:
  """Returns a loss; `infinite` stands for one that is."""
  if value is None or np.isnan(value):
    return Cell("none", value=None)
  return Cell(infinite if np.isinf(value) else f"{value:.3g}", value=value)


def ratio(value: float | None) -> Cell:
  """Returns a ratio."""
  return number(value, infinite="infinite")


def of(count: int, everything: int) -> Cell:
  """Returns how many of how many."""
  return Cell(f"{count} of {everything}", value=count, of=everything)


def interval(
  estimate: Estimate | None, *, at_most: Estimate | None = None
) -> Cell:
  """Returns a number with its interval; of a lower bound, with the lower end.

  Args:
    estimate: the number; `None` where there is none.
    at_most: what it may be at most, if it is not known exactly: where that is
      larger, the number, or the upper end, is only a lower bound.
  """
  if estimate is None:
    return Cell("none", value=None)
  at_most = at_most or estimate
  is_bound = at_most.value > estimate.value
  is_open = is_bound or at_most.high > estimate.high
  ends = {"low": estimate.low, "high": None if is_open else estimate.high}
  return Cell(
    _interval(estimate, is_bound, is_open),
    value=estimate.value,
    **(ends if estimate.has_interval else {}),
    **({"bound": "at least"} if is_bound else {}),
  )


def _interval(estimate: Estimate, is_bound: bool, is_open: bool) -> str:
  value, low, high = (_plain(x) for x in estimate)
  if not estimate.has_interval:
    return f"{'at least ' if is_bound else ''}{value}"
  if np.isinf(estimate.low):
    return value
  if is_bound or np.isinf(estimate.value):
    return f"{'at least ' if is_bound else ''}{value} (from {low})"
  return f"{value} ({low} to {'more than ' if is_open else ''}{high})"


def _plain(value: float) -> str:
  if np.isinf(value):
    return "infinite"
  return f"{value:.2f}" if 0.1 <= value < 100 else f"{value:.2g}"


def failed(score: Score) -> Cell:
  """Returns how many runs failed, and how."""
  found = score.failures
  text = f"{found.total} of {score.num_runs}"
  if found.total:
    text += (
      f" ({found.ended_badly} ended badly, {found.blew_up} blew up on the way)"
    )
  return Cell(text, value=found.total, runs=score.num_runs)


def failed_briefly(score: Score) -> Cell:
  """Returns how many runs ended badly and blew up, for a narrow column."""
  found = score.failures
  return Cell(
    f"{found.ended_badly} / {found.blew_up} of {score.num_runs}",
    value=found.total,
    ended_badly=found.ended_badly,
    blew_up=found.blew_up,
    runs=score.num_runs,
  )


def counts(score: Score) -> Cell:
  """Returns how many tasks were won, tied and lost."""
  won, tied, lost = score.counts
  return Cell(f"{won} / {tied} / {lost}", won=won, tied=tied, lost=lost)


def sure(score: Score) -> Cell:
  """Returns sure wins and losses, or why there can't be any."""
  if not score.false_sure:
    return Cell("too few seeds", wins=None, losses=None)
  wins, losses = score.sure_wins, score.sure_losses
  return Cell(f"{wins} / {losses}", wins=wins, losses=losses)


def worst(score: Score) -> Cell:
  """Returns the ratio on the worst task, or why it is 0, and the task."""
  if not score.worst_task:
    return Cell("none", value=None, task=None)
  what: str = ratio(score.worst_ratio)
  if score.worst_diverged:
    what = "diverged"
  elif score.worst_ratio == 0.0:
    what = f"{score.other} at 0"
  return Cell(
    f"{what}, {score.worst_task}",
    value=score.worst_ratio,
    task=score.worst_task,
  )


def share(estimate: Estimate | None) -> Cell:
  """Returns a share of tasks, in percent, with its interval."""
  if estimate is None:
    return Cell("none", value=None)
  value = f"{100 * estimate.value:.0f} %"
  if not estimate.has_interval:
    return Cell(value, value=estimate.value)
  return Cell(f"{value} ({ends_of_share(estimate)})", **estimate._asdict())


def ends_of_share(estimate: Estimate | None) -> Cell:
  """Returns the ends of the interval of a share, in percent."""
  if estimate is None or not estimate.has_interval:
    return Cell("none", low=None, high=None)
  return Cell(
    f"{100 * estimate.low:.0f} to {100 * estimate.high:.0f}",
    low=estimate.low,
    high=estimate.high,
  )


def no_ratio(scored: Mapping[str, Score]) -> str:
  """Says which lines leave tasks out, those that leave as many together.

  Args:
    scored: what a line is called -> its scores.
  """
  found: dict[str, list[str]] = {}
  for line, score in scored.items():
    if score.num_without_ratio:
      where = f"{score.num_without_ratio} of {count_of_tasks(len(score.tasks))}"
      found.setdefault(where, []).append(line)
  if not found:
    return ""
  said = "; ".join(
    f"{_lines(lines, list(scored))} on {where}"
    for where, lines in found.items()
  )
  return f" A negative loss has no loss ratio: {said}."


def _lines(lines: Sequence[str], everything: Sequence[str]) -> str:
  """Names some of all lines, or the others where those are fewer."""
  others = [line for line in everything if line not in lines]
  if len(lines) <= len(others) or len(lines) == 1:
    return ", ".join(lines)
  return f"all but {', '.join(others)}" if others else "all"


def count_of_tasks(count: int) -> str:
  """Returns a number of tasks in words.

  Args:
    count: the number.
  """
  return "1 task" if count == 1 else f"{count} tasks"
