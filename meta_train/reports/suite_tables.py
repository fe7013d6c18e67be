"""Tables of a suite, as cells of text: for Markdown, CSV and the page.

Names: `Table`, `overview`, `against_baselines`, `by_task`, `overhead`,
`sweep_table`, `sweep_scores`, `common_tasks`, `left_out`, `markdown`,
`csv_text`.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from meta_train.evaluation import rankings
from meta_train.evaluation import scores as scores_lib
from meta_train.evaluation.baseline_runs import REFERENCE
from meta_train.evaluation.scores import Score
from meta_train.evaluation.standings import Standings
from meta_train.evaluation.sweep_standings import Sweep
from meta_train.evaluation.task_scores import TaskScore, task_score
from meta_train.reports.table_cells import (
  failed,
  interval,
  number,
  ratio,
  share,
)
from meta_train.rows import Row


class Table(NamedTuple):
  """A table.

  Attributes:
    name: of its file.
    title: above it.
    header: titles of the columns.
    rows: cells.
    note: below it.
  """

  name: str
  title: str
  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  note: str = ""


def overview(found: Standings) -> Table:
  """Returns all optimizers against tuned constant Adam.

  Args:
    found: all results.
  """
  ranks = rankings.average_ranks(found)
  rows, without_ratio = [], []
  for name in found.optimizers:
    score = scores_lib.score(found, name, REFERENCE)
    if score is None:
      continue
    itself = name == REFERENCE
    if score.num_without_ratio:
      without_ratio.append(
        f"{name} on {score.num_without_ratio} of {len(score.tasks)} tasks"
      )
    rows.append(
      [
        name,
        str(len(score.tasks)),
        interval(score.speed_up, is_bound=score.is_speed_up_bound),
        f"{score.num_censored} of {score.num_speed_ups}",
        "1" if itself else interval(score.speed_ratio),
        "1" if itself else interval(score.loss_ratio),
        "itself" if itself else share(score.won),
        "itself" if itself else share(score.won_held_out),
        "" if itself else f"{score.sure_wins} / {score.sure_losses}",
        f"{ranks[name]:.2f}" if ranks else "none",
        failed(score),
        "" if itself else f"{ratio(score.worst_ratio)}, {score.worst_task}",
      ]
    )
  return Table(
    "overview",
    f"Against {REFERENCE}, tuned",
    ("Optimizer", "Tasks", "Speed-up", "Censored", "Speed ratio", "Loss ratio")
    + ("Tasks won", "Won on held-out data", "Sure wins / losses")
    + (f"Rank on {_tasks(len(found.common_tasks))}", "Failed", "Worst task"),
    rows,
    "Each line is of the tasks that its optimizer and Adam have runs on; ranks "
    "are of those that all optimizers have. "
    "Interquartile means (of the middle half of all tasks for the speed-up, of "
    "all runs for the ratios), with the 95 % interval of a stratified "
    "bootstrap over seeds, not over tasks. Speed-up: steps that the lower "
    "envelope of Adam's learning rates needs for the loss that the optimizer "
    "ends at, in the mean over seeds, over the steps taken (VeLO); censored on "
    "tasks where Adam never got as low, and then counted as what was looked "
    "at, so that the mean may be no more than a lower bound (at least, and "
    "from the lower end of its interval); 0 where a run diverged. The "
    "envelope's seeds are not drawn anew. Speed ratio and loss ratio: against "
    "Adam at its best constant rate, run by run (after Celo); above 1 is "
    f"better. {_WON}{_FAILED}Sure: p < 0.05 in a paired sign-flip test over "
    "seeds. Worst: ratio of mean final losses. Adam's own speed-up is what "
    "there is to reach: below 1 where it is at its floor long before the end."
    + _no_ratio(without_ratio),
  )


_WON = (
  "Tasks won: by the mean final training loss, a tie (within 1e-5 of the "
  "larger magnitude) being half. Won on held-out data: by the mean final loss "
  "on the held-out split, against the baseline at the rate of its grid that is "
  "best by that loss, where the rates have been run on all seeds; tasks "
  "without data have the same loss in both. "
)
_FAILED = (
  "Failed: ended badly (diverged, or ended above the loss that it began with), "
  "or blew up on the way (after 5 % of the steps its curve rose above twice "
  "that loss, and for a negative loss b above b + |b|). "
)


def _no_ratio(names: Sequence[str]) -> str:
  if not names:
    return ""
  return f" A negative loss has no loss ratio: {', '.join(names)}."


def _tasks(count: int) -> str:
  return "1 task" if count == 1 else f"{count} tasks"


def against_baselines(found: Standings) -> Table:
  """Returns each candidate against each baseline.

  Args:
    found: all results.
  """
  rows, without_ratio = [], []
  for name in found.candidates:
    for other in found.baselines:
      score = scores_lib.score(found, name, other)
      if score is not None:
        if score.num_without_ratio:
          without_ratio.append(
            f"{name} against {other} on {score.num_without_ratio} of "
            f"{len(score.tasks)} tasks"
          )
        rows.append(
          [
            name,
            other,
            share(score.won),
            share(score.won_held_out),
            f"{score.sure_wins} / {score.sure_losses}",
            interval(score.speed_ratio),
            interval(score.loss_ratio),
            str(len(score.tasks)),
          ]
        )
  return Table(
    "against_baselines",
    "Against every tuned baseline",
    ("Optimizer", "Baseline", "Tasks won", "Won on held-out data")
    + ("Sure wins / losses", "Speed ratio", "Loss ratio", "Tasks"),
    rows,
    f"{_WON}Intervals are over seeds, not over tasks."
    + _no_ratio(without_ratio),
  )


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
      rate = "" if runs.learning_rate is None else f"{runs.learning_rate:g}"
      edge = " (edge)" if (task, name) in found.at_edge else ""
      rows.append(
        [
          task,
          name,
          rate + edge,
          number(float(runs.losses.mean())),
          number(runs.mean("valid", "loss")),
          *(
            ["" if accuracy is None else f"{100 * accuracy:.1f} %"]
            * has_accuracy
          ),
          _task_speed_up(scored),
          f"{runs.num_diverged} of {len(runs.seeds)}",
        ]
      )
  return Table(
    "tasks",
    "Task by task",
    ("Task", "Optimizer", "Rate", "Final training loss", "Held-out loss")
    + ("Accuracy",) * has_accuracy
    + ("Speed-up", "Diverged"),
    rows,
    "Means over seeds; the speed-up is that of the mean over seeds, and > "
    "where Adam never got as low. A best rate at the edge of its grid may mean "
    "that a wider grid does better.",
  )


def _task_speed_up(scored: TaskScore | None) -> str:
  if scored is None or scored.speed_up is None:
    return ""
  value = float(scored.speed_up.value)
  return f"> {value:.3g}" if scored.speed_up.censored else f"{value:.2f}"


def overhead(rows: Iterable[Row]) -> Table | None:
  """Returns times per step and sizes of states.

  Args:
    rows: as `meta_train.evaluation.overhead.measure` writes them.

  Returns:
    The table; `None` without rows.
  """
  rows = sorted(rows, key=lambda row: row["parameters"])
  adam = {
    row["task"]: row["step_s"] for row in rows if row["optimizer"] == REFERENCE
  }
  cells = [
    [
      row["task"],
      f"{row['parameters']:,}",
      row["optimizer"],
      f"{1e6 * row['step_s']:,.0f}",
      f"{row['step_s'] / adam[row['task']]:.2f}"
      if row["task"] in adam
      else "none",
      f"{row['state_bytes']:,}",
      f"{row['state_bytes'] / max(1, row['parameters']):.1f}",
    ]
    for row in rows
  ]
  if not cells:
    return None
  return Table(
    "overhead",
    "What a step costs",
    ("Task", "Parameters", "Optimizer", "Microseconds per step")
    + ("Over Adam's", "State, bytes", "Bytes per parameter"),
    cells,
    "A step is loss, gradient and update of one run; the fastest of five "
    "repetitions, on " + ", ".join({str(row["device"]) for row in rows}) + ".",
  )


def sweep_scores(sweep: Sweep) -> dict[str, list[Score | None]]:
  """Returns each candidate's scores at each setting.

  So that settings can be compared, only tasks count that a candidate and Adam
  have at each setting that has both of them.

  Args:
    sweep: the sweep.
  """
  settings = list(sweep.settings.values())
  names = {name: None for each in settings for name in each.candidates}
  return {
    name: [
      scores_lib.score(each.only(common_tasks(sweep, name)), name, REFERENCE)
      for each in settings
    ]
    for name in names
  }


def common_tasks(sweep: Sweep, name: str) -> list[str]:
  """Returns the tasks that a candidate can be scored on at all settings.

  Args:
    sweep: the sweep.
    name: the candidate; settings at which it, or Adam, has no runs at all
      don't count.
  """
  there = [
    [task for task in each.tasks if {name, REFERENCE} <= set(each.runs[task])]
    for each in sweep.settings.values()
  ]
  there = [tasks for tasks in there if tasks]
  return [
    task for task in (there or [[]])[0] if all(task in each for each in there)
  ]


def left_out(sweep: Sweep) -> list[str]:
  """Returns a sentence for each candidate with tasks at some settings only.

  Args:
    sweep: the sweep.
  """
  sentences = []
  settings = list(sweep.settings.values())
  for name in {name: None for each in settings for name in each.candidates}:
    common = common_tasks(sweep, name)
    others = {
      task: None
      for each in settings
      for task in each.tasks
      if name in each.runs[task] and task not in common
    }
    if common and others:
      sentences.append(
        f"sweep of {sweep.name}, {name}: {', '.join(others)} can't be scored "
        "at all settings and count at none."
      )
  return sentences


def sweep_table(sweep: Sweep) -> Table:
  """Returns the candidates at each setting of a sweep.

  Args:
    sweep: the sweep.
  """
  rows = []
  for name, each in sweep_scores(sweep).items():
    for value, score in zip(sweep.settings, each):
      if score is not None:
        rows.append(
          [
            name,
            value,
            interval(score.loss_ratio),
            interval(score.speed_ratio),
            share(score.won),
            failed(score),
            str(len(score.tasks)),
          ]
        )
  return Table(
    f"sweep_{sweep.name}",
    f"Sweep: {sweep.name.replace('_', ' ')}",
    ("Optimizer", "Setting", "Loss ratio", "Speed ratio")
    + ("Tasks won", "Failed runs", "Tasks"),
    rows,
    "Against Adam, tuned anew at each setting on one seed of its own, on the "
    f"tasks that have runs at all settings. {_FAILED}Intervals are over seeds, "
    "not over tasks.",
  )


def markdown(table: Table) -> str:
  """Returns a table as Markdown, with its title and note."""

  def line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"

  return "\n".join(
    [
      f"### {table.title}",
      "",
      line(table.header),
      line(["---"] * len(table.header)),
      *map(line, table.rows),
      "",
      table.note,
      "",
    ]
  )


def csv_text(table: Table) -> str:
  """Returns a table as CSV."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(table.header)
  writer.writerows(table.rows)
  return text.getvalue()
