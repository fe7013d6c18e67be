"""Scores of an optimizer against another on one task.

Idea: every measure of `meta_train.evaluation.measures` is taken on the seeds
that both optimizers have, the speed-up from the mean over them and all others
run by run.

Names: `TaskScore`, `task_score`, `Failures`, `failures`, `all_failures`,
`speed_up`, `common_runs`.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from meta_train.evaluation.baseline_runs import REFERENCE
from meta_train.evaluation.measures import paired, ratios, speedup, ties
from meta_train.evaluation.standings import Standings
from meta_train.evaluation.summary import Runs

#: Share of a run after which its loss may no more blow up.
SETTLED = 0.05


class Failures(NamedTuple):
  """How many runs failed, and how.

  Attributes:
    ended_badly: diverged, or ended above the loss that they began with.
    blew_up: others whose curve was, after `SETTLED` of the run, above twice the
      loss that they began with, or for a loss b that is not positive above
      b + |b|.
  """

  ended_badly: int
  blew_up: int

  @property
  def total(self) -> int:
    """Runs that failed."""
    return self.ended_badly + self.blew_up


@dataclasses.dataclass(frozen=True)
class TaskScore:
  """How an optimizer fared against another on one task.

  Attributes:
    task: name of the task.
    loss_ratio: final-loss ratio of each common run.
    speed_ratio: speed ratio of each; empty where curves are missing.
    last_loss: last loss of each, which the speed-up is made from.
    speed_up: speed-up of their mean, against the reference's envelope; `None`
      where there is no envelope.
    outcome: win, loss or tie, and p-values.
    ratio_of_means: the other's mean final loss over ours; NaN where there is
      no ratio.
    failures: runs that failed.
  """

  task: str
  loss_ratio: Float[np.ndarray, "runs"]
  speed_ratio: Float[np.ndarray, "runs"]
  last_loss: Float[np.ndarray, "runs"]
  speed_up: speedup.SpeedUp | None
  outcome: paired.Outcome
  ratio_of_means: float
  failures: Failures


def task_score(
  found: Standings, task: str, name: str, other: str
) -> TaskScore | None:
  """Scores an optimizer against another on one task.

  Args:
    found: all results.
    task: name of the task.
    name: the optimizer.
    other: what it is compared with, usually tuned Adam.

  Returns:
    The scores; `None` if one has no runs or they share no seed.
  """
  if not {name, other} <= set(found.runs[task]):
    return None
  ours, theirs, (i, j) = common_runs(found, task, name, other)
  if not i:
    return None
  losses, others = ours.losses[i], theirs.losses[j]
  last = found.last[task][name][i]
  has_speed_up = other == REFERENCE and task in found.envelopes
  return TaskScore(
    task=task,
    loss_ratio=ratios.loss_ratio(losses, others),
    speed_ratio=_speed_ratio(
      _curves(found, task, name)[i], _curves(found, task, other)[j]
    ),
    last_loss=last,
    speed_up=speed_up(found, task, last) if has_speed_up else None,
    outcome=paired.outcome(losses, others),
    ratio_of_means=float(
      ratios.loss_ratio(losses.mean()[None], others.mean()[None])[0]
    ),
    failures=failures(found, task, name),
  )


def common_runs(
  found: Standings, task: str, name: str, other: str
) -> tuple[Runs, Runs, tuple[list[int], ...]]:
  """Returns both runs, and the numbers of the common seeds in each.

  Args:
    found: all results.
    task: name of the task, on which both have runs.
    name: the optimizer.
    other: what it is compared with.
  """
  ours, theirs = found.runs[task][name], found.runs[task][other]
  common = sorted(set(ours.seeds) & set(theirs.seeds))
  indices = tuple(
    [runs.seeds.index(seed) for seed in common] for runs in (ours, theirs)
  )
  return ours, theirs, indices


def speed_up(
  found: Standings, task: str, last: Float[np.ndarray, "*draws runs"]
) -> speedup.SpeedUp:
  """Returns the speed-up that last losses make on a task with an envelope.

  Args:
    found: all results.
    task: name of the task.
    last: last losses of runs, several draws of them at once if need be.
  """
  envelope = found.envelopes[task]
  return speedup.speed_up(
    last, envelope.values, num_steps=found.num_steps, every=envelope.every
  )


def _curves(
  found: Standings, task: str, name: str
) -> Float[np.ndarray, "runs points"]:
  """Returns the curves of runs, infinite for those that ended badly."""
  bad = _ended_badly(found, task, name)
  return np.where(bad[:, None], np.inf, found.runs[task][name].curves)


def _speed_ratio(curves, others) -> Float[np.ndarray, "runs"]:
  if curves.shape != others.shape or not curves.shape[-1]:
    return np.zeros(0)
  return speedup.speed_ratio(curves, others)


def _ended_badly(
  found: Standings, task: str, name: str
) -> Bool[np.ndarray, "runs"]:
  """Returns which runs diverged, or ended above the loss they began with.

  They may have diverged as late as in the final measurement.
  """
  losses, began = found.runs[task][name].losses, found.first[task][name]
  above = (losses > began) & ~ties.tied(losses, began)
  return ~np.isfinite(losses) | above


def failures(found: Standings, task: str, name: str) -> Failures:
  """Counts the runs of an optimizer on a task that failed.

  Args:
    found: all results.
    task: name of the task.
    name: the optimizer.
  """
  runs, began = found.runs[task][name], found.first[task][name]
  ended_badly = _ended_badly(found, task, name)
  settled = int(np.ceil(SETTLED * runs.curves.shape[-1]))
  highest = runs.curves[:, settled:].max(axis=-1, initial=-np.inf)
  blew_up = ~ended_badly & (highest > began + np.abs(began))
  return Failures(int(ended_badly.sum()), int(blew_up.sum()))


def all_failures(found: Standings, name: str) -> tuple[Failures, int]:
  """Counts the runs of an optimizer that failed, and its runs, on all tasks.

  Whether a run failed does not depend on what it is compared with, so tasks
  count on which there is nothing to compare with.

  Args:
    found: all results.
    name: the optimizer.

  Returns:
    The failures, and how many runs there are.
  """
  tasks = [task for task in found.tasks if name in found.runs[task]]
  counts = [failures(found, task, name) for task in tasks]
  return (
    Failures(
      sum(each.ended_badly for each in counts),
      sum(each.blew_up for each in counts),
    ),
    sum(len(found.runs[task][name].seeds) for task in tasks),
  )
