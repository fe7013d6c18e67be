"""Scores of optimizers against tuned baselines, with intervals.

Idea: every measure of `meta_train.evaluation.measures` is taken task by task,
speed-ups from the mean over seeds and all others run by run, and put together
here. Seeds
that only one of two optimizers has are left out, and so are tasks for which a
measure does not exist; how many is part of the result.

Names: `Score`, `score`, `TaskScore`, `task_score`, `Failures`, `failures`,
`profile_of`, `mean_losses`.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from meta_train.evaluation.baseline_runs import REFERENCE
from meta_train.evaluation.measures import (
  aggregate,
  paired,
  profile,
  ranking,
  ratios,
  smoothing,
  speedup,
)
from meta_train.evaluation.standings import Standings
from meta_train.evaluation.summary import Runs

#: p-value below which a win or a loss on a task counts as sure. Five seeds
#: that all agree have 1/32.
SURE = 0.05
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


def _common(found: Standings, task: str, name: str, other: str):
  """Returns both runs, and the numbers of the common seeds in each."""
  ours, theirs = found.runs[task][name], found.runs[task][other]
  common = sorted(set(ours.seeds) & set(theirs.seeds))
  indices = tuple(
    [runs.seeds.index(seed) for seed in common] for runs in (ours, theirs)
  )
  return ours, theirs, indices


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
  ours, theirs, (i, j) = _common(found, task, name, other)
  if not i:
    return None
  losses, others = ours.losses[i], theirs.losses[j]
  last = found.last[task][name][i]
  has_speed_up = other == REFERENCE and task in found.envelopes
  return TaskScore(
    task=task,
    loss_ratio=ratios.loss_ratio(losses, others),
    speed_ratio=_speed_ratio(ours, theirs, i, j),
    last_loss=last,
    speed_up=_speed_up(found, task, last) if has_speed_up else None,
    outcome=paired.outcome(losses, others),
    ratio_of_means=float(
      ratios.loss_ratio(losses.mean()[None], others.mean()[None])[0]
    ),
    failures=failures(found, task, name),
  )


def _speed_up(
  found: Standings, task: str, last: Float[np.ndarray, "*draws runs"]
) -> speedup.SpeedUp:
  """Returns the speed-up that last losses make on a task with an envelope."""
  envelope = found.envelopes[task]
  return speedup.speed_up(
    last, envelope.values, num_steps=found.num_steps, every=envelope.every
  )


def _speed_ratio(ours: Runs, theirs: Runs, i, j) -> Float[np.ndarray, "runs"]:
  curves, others = (
    # A run may have diverged as late as in the final measurement.
    np.where(np.isinf(runs.losses[k])[:, None], np.inf, runs.curves[k])
    for runs, k in ((ours, i), (theirs, j))
  )
  if curves.shape != others.shape or not curves.shape[-1]:
    return np.zeros(0)
  return speedup.speed_ratio(curves, others)


def failures(found: Standings, task: str, name: str) -> Failures:
  """Counts the runs of an optimizer on a task that failed.

  Args:
    found: all results.
    task: name of the task.
    name: the optimizer.
  """
  runs, began = found.runs[task][name], found.first[task][name]
  ended_badly = ~np.isfinite(runs.losses) | (runs.losses > began)
  settled = int(np.ceil(SETTLED * runs.curves.shape[-1]))
  highest = runs.curves[:, settled:].max(axis=-1, initial=-np.inf)
  blew_up = ~ended_badly & (highest > began + np.abs(began))
  return Failures(int(ended_badly.sum()), int(blew_up.sum()))


@dataclasses.dataclass(frozen=True)
class Score:
  """How an optimizer fared against another over all tasks.

  Attributes:
    name: the optimizer.
    other: what it was compared with.
    tasks: the scores task by task.
    speed_up: IQM over tasks of speed-ups, censored ones at their bounds.
    num_censored: tasks whose speed-up is censored.
    num_speed_ups: tasks that have a speed-up.
    speed_ratio: IQM of speed ratios.
    loss_ratio: IQM of final-loss ratios.
    num_without_ratio: tasks without a final-loss ratio.
    won: share of tasks won, ties as halves, with its interval over seeds.
    won_held_out: the same by held-out loss, where there are some.
    num_held_out: tasks that both have held-out losses on.
    sure_wins: tasks won with a p-value below `SURE`.
    sure_losses: tasks lost likewise.
    failures: runs that failed.
    num_runs: runs of the optimizer.
    worst_task: task with the lowest ratio of mean losses.
    worst_ratio: that ratio; 0 if it diverged there.
  """

  name: str
  other: str
  tasks: tuple[TaskScore, ...]
  speed_up: aggregate.Estimate | None
  num_censored: int
  num_speed_ups: int
  speed_ratio: aggregate.Estimate | None
  loss_ratio: aggregate.Estimate | None
  num_without_ratio: int
  won: aggregate.Estimate
  won_held_out: aggregate.Estimate | None
  num_held_out: int
  sure_wins: int
  sure_losses: int
  failures: Failures
  num_runs: int
  worst_task: str
  worst_ratio: float

  @property
  def is_speed_up_bound(self) -> bool:
    """Whether a censored task is in the middle half, so the IQM is a bound."""
    return self.num_censored > self.num_speed_ups // 4


def score(found: Standings, name: str, other: str) -> Score | None:
  """Scores an optimizer against another over all tasks that both have.

  Args:
    found: all results.
    name: the optimizer.
    other: what it is compared with.

  Returns:
    The scores; `None` if there is no such task.
  """
  scored = [task_score(found, task, name, other) for task in found.tasks]
  tasks = tuple(each for each in scored if each is not None)
  if not tasks:
    return None
  ups = [each.speed_up for each in tasks if each.speed_up is not None]
  with_ratio = [
    each.loss_ratio for each in tasks if not np.isnan(each.loss_ratio).any()
  ]
  known = [each for each in tasks if not np.isnan(each.ratio_of_means)]
  worst = min(known, key=lambda each: each.ratio_of_means, default=None)
  held_out = [_held_out(found, each.task, name, other) for each in tasks]
  held_out = [pair for pair in held_out if pair[0].size]
  return Score(
    name=name,
    other=other,
    tasks=tasks,
    speed_up=_mean_speed_up(
      found, [each for each in tasks if each.speed_up is not None]
    ),
    num_censored=sum(bool(up.censored) for up in ups),
    num_speed_ups=len(ups),
    speed_ratio=_iqm([each.speed_ratio for each in tasks]),
    loss_ratio=_iqm(with_ratio),
    num_without_ratio=len(tasks) - len(with_ratio),
    won=_share_won([_final(found, each.task, name, other) for each in tasks]),
    won_held_out=_share_won(held_out) if held_out else None,
    num_held_out=len(held_out),
    sure_wins=sum(each.outcome.p_better < SURE for each in tasks),
    sure_losses=sum(each.outcome.p_worse < SURE for each in tasks),
    failures=Failures(
      *(sum(each) for each in zip(*(each.failures for each in tasks)))
    ),
    num_runs=sum(len(found.runs[each.task][name].seeds) for each in tasks),
    worst_task=worst.task if worst else "",
    worst_ratio=worst.ratio_of_means if worst else float("nan"),
  )


def _mean_speed_up(
  found: Standings, tasks: Sequence[TaskScore]
) -> aggregate.Estimate | None:
  """Returns the IQM of speed-ups; for its interval, seeds are drawn anew."""
  if not tasks:
    return None

  def values(task: str, losses: Float[np.ndarray, "draws runs"]):
    return _speed_up(found, task, losses).value

  return aggregate.bootstrap_of_tasks(
    [each.last_loss for each in tasks],
    [functools.partial(values, each.task) for each in tasks],
  )


def _iqm(scores: Sequence[np.ndarray]) -> aggregate.Estimate | None:
  scores = [each for each in scores if each.size]
  return aggregate.bootstrap(scores) if scores else None


#: Losses of two optimizers on a task, seed by seed.
Pair = tuple[Float[np.ndarray, "runs"], Float[np.ndarray, "runs"]]


def _final(found: Standings, task: str, name: str, other: str) -> Pair:
  """Returns final training losses of the common seeds."""
  ours, theirs, (i, j) = _common(found, task, name, other)
  return ours.losses[i], theirs.losses[j]


def _held_out(found: Standings, task: str, name: str, other: str) -> Pair:
  """Returns final held-out losses of the common seeds."""
  ours, theirs = (found.held_out[task].get(each, {}) for each in (name, other))
  common = sorted(set(ours) & set(theirs))
  return (
    np.asarray([ours[seed] for seed in common]),
    np.asarray([theirs[seed] for seed in common]),
  )


def _share_won(pairs: Sequence[Pair]) -> aggregate.Estimate:
  """Returns the share of tasks won, with an interval over seeds.

  Runs of both optimizers are drawn together, task by task.
  """
  num_resamples, rng = 1000, np.random.default_rng(0)
  value, drawn = 0.0, np.zeros(num_resamples)
  for losses, others in pairs:
    value += float(paired.is_better(losses, others))
    picks = rng.integers(losses.size, size=(num_resamples, losses.size))
    drawn += paired.is_better(losses[picks], others[picks])
  return aggregate.interval(value / len(pairs), drawn / len(pairs))


def mean_losses(
  found: Standings,
) -> tuple[list[str], Float[np.ndarray, "tasks optimizers"]]:
  """Returns mean final losses on the tasks that all optimizers have.

  Args:
    found: all results.

  Returns:
    The tasks, and the losses of `found.optimizers` on them.
  """
  tasks = found.common_tasks
  losses = [
    [found.runs[task][name].losses.mean() for name in found.optimizers]
    for task in tasks
  ]
  shape = (len(tasks), len(found.optimizers))
  return tasks, np.asarray(losses, float).reshape(shape)


def average_ranks(found: Standings) -> dict[str, float]:
  """Returns each optimizer's mean rank; empty if no task has all of them."""
  tasks, losses = mean_losses(found)
  if not tasks:
    return {}
  return dict(zip(found.optimizers, ranking.average_ranks(losses).tolist()))


def times_to_target(
  found: Standings,
) -> tuple[list[str], Float[np.ndarray, "tasks optimizers"]]:
  """Returns the steps that each optimizer takes to tuned Adam's last loss.

  The target of a task is the mean over seeds of the last losses of tuned
  constant Adam; an optimizer is there when the mean of its smoothed curves is.

  Args:
    found: all results.

  Returns:
    The tasks that all optimizers have curves on, and the steps of
    `found.optimizers`; `inf` where the target is never reached.
  """
  tasks, _ = mean_losses(found)
  if REFERENCE not in found.optimizers:
    return [], np.zeros((0, len(found.optimizers)))
  times = [
    [_time_to(found, task, name) for name in found.optimizers] for task in tasks
  ]
  shape = (len(tasks), len(found.optimizers))
  return tasks, np.asarray(times, float).reshape(shape)


def _time_to(found: Standings, task: str, name: str) -> float:
  def curve(optimizer: str) -> Float[np.ndarray, "points"]:
    return smoothing.smooth(found.runs[task][optimizer].curves).mean(axis=0)

  reference, values = curve(REFERENCE), curve(name)
  if not reference.size or not values.size:
    return np.inf
  target = reference[-1]
  if np.isinf(target):  # Nobody can be measured by a loss that is none.
    return np.inf
  every = found.runs[task][name].every
  return speedup.steps_to_reach(smoothing.monotone(values), target, every=every)


def profile_of(
  found: Standings, factors: Float[np.ndarray, "factors"]
) -> Float[np.ndarray, "factors optimizers"] | None:
  """Returns the performance profile over time to target.

  Args:
    found: all results.
    factors: of the time of the best.

  Returns:
    One column for each of `found.optimizers`; `None` without tasks.
  """
  tasks, times = times_to_target(found)
  return profile.profile(times, factors) if tasks else None
