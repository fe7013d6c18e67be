"""The table of a sweep, and what it leaves out.

Names: `sweep_table`, `sweep_scores`, `common_tasks`, `left_out`.
"""

import dataclasses

import numpy as np

from meta_train.evaluation import scores as scores_lib
from meta_train.evaluation.baseline_runs import REFERENCE
from meta_train.evaluation.scores import Score
from meta_train.evaluation.sweep_standings import Sweep
from meta_train.reports.table_cells import (
  FAILED,
  failed,
  interval,
  no_ratio,
  share,
)
from meta_train.reports.tables import Table


def sweep_scores(sweep: Sweep) -> dict[str, list[Score | None]]:
  """Returns each optimizer's scores against Adam at each setting.

  So that settings can be compared, only tasks count that an optimizer and Adam
  have at each setting that has both of them; for the loss ratio, only tasks
  that have one at each.

  Args:
    sweep: the sweep.
  """
  return {name: _scores(sweep, name) for name in _optimizers(sweep)}


def _optimizers(sweep: Sweep) -> list[str]:
  """Returns candidates, then baselines, but for Adam."""
  settings = sweep.settings.values()
  candidates = [name for each in settings for name in each.candidates]
  baselines = [name for each in settings for name in each.baselines]
  names = dict.fromkeys([*candidates, *baselines])
  return [name for name in names if name != REFERENCE]


def _scores(sweep: Sweep, name: str) -> list[Score | None]:
  """Returns an optimizer's scores at each setting."""

  def at(tasks):
    return [
      scores_lib.score(each.only(tasks), name, REFERENCE)
      for each in sweep.settings.values()
    ]

  tasks = common_tasks(sweep, name)
  found = at(tasks)
  without = {
    each.task
    for score in found
    if score is not None
    for each in score.tasks
    if np.isnan(each.loss_ratio).any()
  }
  if not without:
    return found
  rest = at([task for task in tasks if task not in without])
  return [
    score
    and dataclasses.replace(
      score,
      loss_ratio=narrow and narrow.loss_ratio,
      num_without_ratio=len(without),
    )
    for score, narrow in zip(found, rest)
  ]


def common_tasks(sweep: Sweep, name: str) -> list[str]:
  """Returns the tasks that an optimizer can be scored on at all settings.

  Args:
    sweep: the sweep.
    name: the optimizer; settings at which it, or Adam, has no runs at all
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
  """Returns a sentence for each optimizer with tasks at some settings only.

  One that no task is left for is told too.

  Args:
    sweep: the sweep.
  """
  sentences = []
  settings = list(sweep.settings.values())
  for name in _optimizers(sweep):
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
  """Returns the optimizers at each setting of a sweep.

  Args:
    sweep: the sweep.
  """
  rows = []
  scored = sweep_scores(sweep)
  for name, each in scored.items():
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
    "not over tasks."
    + no_ratio(
      {
        name: next(score for score in each if score is not None)
        for name, each in scored.items()
        if any(each)
      }
    ),
  )
