"""Tables of a suite task by task: what came out, and what a step costs.

Names: `by_task`, `overhead`.
"""

from collections.abc import Iterable

import numpy as np

from meta_train.evaluation.baseline_runs import REFERENCE
from meta_train.evaluation.measures import paired
from meta_train.evaluation.standings import Standings
from meta_train.evaluation.task_scores import TaskScore, failures, task_score
from meta_train.reports.table_cells import FAILED, number, of, ratio
from meta_train.reports.tables import Cell, Table
from meta_train.rows import Row


def by_task(found: Standings) -> Table:
  """Returns all optimizers on all tasks, one line for each pair.

  Args:
    found: all results.
  """
  rows = []
  has_accuracy = any(
    runs.mean("valid", "accuracy") is not None
    for there in found.runs.values()
    for runs in there.values()
  )
  for task in found.tasks:
    for name in found.optimizers:
      if name not in found.runs[task]:
        continue
      runs = found.runs[task][name]
      scored = task_score(found, task, name, REFERENCE)
      accuracy = runs.mean("valid", "accuracy")
      rows.append(
        [
          task,
          name,
          _rate(runs.learning_rate, (task, name) in found.at_edge),
          number(float(runs.losses.mean())),
          number(runs.mean("valid", "loss")),
          *([_percent(accuracy)] * has_accuracy),
          *_beside_reference(scored, is_itself=name == REFERENCE),
          of(failures(found, task, name).total, len(runs.seeds)),
        ]
      )
  return Table(
    "tasks",
    "Task by task",
    ("Task", "Optimizer", "Rate", "Final training loss", "Held-out loss")
    + ("Accuracy",) * has_accuracy
    + (f"Against {REFERENCE}", "Loss ratio", "Speed-up", "Failed"),
    rows,
    "Means over seeds; the speed-up is that of the mean over seeds, and > "
    "where Adam never got as low. A best rate at the edge of its grid may mean "
    f"that a wider grid does better. Against {REFERENCE}: by the mean final "
    "training loss, and sure where p < 0.05 in a paired sign-flip test over "
    "seeds. Loss ratio: of mean final losses, above 1 is better than "
    f"{REFERENCE}. {FAILED}".strip(),
  )


def _beside_reference(
  scored: TaskScore | None, *, is_itself: bool
) -> tuple[str, str, str]:
  """Returns how a task went, the ratio of mean losses, and the speed-up."""
  if scored is None:
    return "", "", ""
  if is_itself:
    return "itself", "1", _task_speed_up(scored)
  outcome = scored.outcome
  word = {1.0: "won", 0.5: "tied", 0.0: "lost"}[outcome.win]
  is_sure = min(outcome.p_better, outcome.p_worse) < paired.SURE
  return (
    word + (", sure" if is_sure else ""),
    ratio(scored.ratio_of_means),
    _task_speed_up(scored),
  )


def _percent(share: float | None) -> str:
  if share is None or not np.isfinite(share):
    return ""
  return Cell(f"{100 * share:.1f} %", value=share)


def _rate(rate: float | None, is_at_edge: bool) -> str:
  """Returns a learning rate, and whether it is at the edge of its grid."""
  if rate is None:
    return ""
  text = f"{rate:g}{' (edge)' if is_at_edge else ''}"
  return Cell(text, value=rate, edge="edge" if is_at_edge else None)


def _task_speed_up(scored: TaskScore) -> str:
  if scored.speed_up is None:
    return ""
  value = float(scored.speed_up.value)
  if scored.speed_up.censored:
    return Cell(f"> {value:.3g}", value=value, bound="more than")
  return Cell(f"{value:.2f}", value=value)


def overhead(rows: Iterable[Row]) -> Table | None:
  """Returns times per step and sizes of states.

  Args:
    rows: as `meta_train.evaluation.overhead.measure` writes them.

  Returns:
    The table; `None` without rows.
  """
  rows = sorted(rows, key=lambda row: row["parameters"])
  devices = list(dict.fromkeys(str(row["device"]) for row in rows))
  many = len(devices) > 1
  cells = [
    [
      row["task"],
      *([str(row["device"])] * many),
      _with_commas(row["parameters"]),
      row["optimizer"],
      _with_commas(1e6 * row["step_s"]),
      _with_commas(1e6 * row["adam_step_s"]),
      f"{row['step_s'] / row['adam_step_s']:.2f}",
      _with_commas(row["state_bytes"]),
      f"{row['state_bytes'] / max(1, row['parameters']):.1f}",
    ]
    for row in rows
  ]
  if not cells:
    return None
  return Table(
    "overhead",
    "What a step costs",
    ("Task", *(["Device"] * many), "Parameters", "Optimizer")
    + ("Microseconds per step", "Adam's")
    + ("Over Adam's", "State, bytes", "Bytes per parameter"),
    cells,
    "A step is loss, gradient and update of one run; the fastest of five "
    f"repetitions, taken in turns with Adam's, on {', '.join(devices)}. The "
    "line of adam is Adam measured beside itself.",
  )


def _with_commas(number: float) -> Cell:
  return Cell(f"{number:,.0f}", value=number)
