"""The table of a sweep, and what it leaves out.

Names: `sweep_table`, `sweep_scores`, `common_tasks`, `left_out`.
"""

from meta_train.evaluation import scores as scores_lib
from meta_train.evaluation.baseline_runs import REFERENCE
from meta_train.evaluation.scores import Score
from meta_train.evaluation.sweep_standings import Sweep
from meta_train.reports.table_cells import FAILED, failed, interval, share
from meta_train.reports.tables import Table


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

  A candidate that no task is left for is told too.

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
    if not others:
      continue
    where = f"sweep of {sweep.name}, {name}: "
    sentences.append(
      f"{where}{', '.join(others)} can't be scored at all settings and count "
      "at none."
      if common
      else f"{where}no task can be scored at all settings, neither "
      f"{' nor '.join(others)}, so there is nothing to compare."
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
    f"tasks that have runs at all settings. {FAILED}Intervals are over seeds, "
    "not over tasks.",
  )
