"""Scores of an optimizer against another over all tasks, with intervals.

Idea: the scores of `meta_train.evaluation.task_scores` are put together here.
Seeds that only one of two optimizers has are left out, and so are tasks for
which a measure does not exist; how many is part of the result.

Names: `Score`, `score`.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from meta_train.evaluation.measures import aggregate, paired
from meta_train.evaluation.standings import Standings
from meta_train.evaluation.task_scores import (
  Failures,
  TaskScore,
  all_failures,
  common_runs,
  speed_up,
  task_score,
)

#: Losses of two optimizers on a task, seed by seed.
Pair = tuple[Float[np.ndarray, "runs"], Float[np.ndarray, "runs"]]


@dataclasses.dataclass(frozen=True)
class Score:
  """How an optimizer fared against another over all tasks.

  Attributes:
    name: the optimizer.
    other: what it was compared with.
    tasks: the scores task by task.
    speed_up: IQM over tasks of speed-ups, censored ones at their bounds.
    speed_up_over_tasks: the same with its interval over tasks too.
    speed_up_at_most: the same as `speed_up`, censored ones at infinity: what
      differs from it is no more than a lower bound.
    speed_up_over_tasks_at_most: likewise over tasks too.
    num_censored: tasks whose speed-up is censored.
    num_speed_ups: tasks that have a speed-up.
    speed_ratio: IQM of speed ratios.
    loss_ratio: IQM of final-loss ratios.
    num_without_ratio: tasks without a final-loss ratio.
    won: share of tasks won, ties as halves, with its interval over seeds.
    won_over_tasks: the same with its interval over tasks too.
    won_held_out: the same by held-out loss, on tasks that have held-out data.
    won_held_out_over_tasks: the same with its interval over tasks too.
    num_held_out: tasks with held-out data that both have losses on.
    sure_wins: tasks won with a p-value below `paired.SURE`.
    sure_losses: tasks lost likewise.
    false_sure: how many sure wins, and as many sure losses, are expected where
      the two are equal; 0 where no task has seeds enough for a sure one.
    num_at_edge: tasks on which the best rate of the other is the highest or
      the lowest of its grid.
    failures: runs that failed, on all tasks of the optimizer, also those that
      the other has no runs on.
    num_runs: runs of the optimizer on all of these.
    worst_task: task with the lowest ratio of mean losses.
    worst_ratio: that ratio; 0 if it diverged there, or the other is at 0.
    worst_diverged: whether a run of it diverged there.
  """

  name: str
  other: str
  tasks: tuple[TaskScore, ...]
  speed_up: aggregate.Estimate | None
  speed_up_over_tasks: aggregate.Estimate | None
  speed_up_at_most: aggregate.Estimate | None
  speed_up_over_tasks_at_most: aggregate.Estimate | None
  num_censored: int
  num_speed_ups: int
  speed_ratio: aggregate.Estimate | None
  loss_ratio: aggregate.Estimate | None
  num_without_ratio: int
  won: aggregate.Estimate
  won_over_tasks: aggregate.Estimate
  won_held_out: aggregate.Estimate | None
  won_held_out_over_tasks: aggregate.Estimate | None
  num_held_out: int
  sure_wins: int
  sure_losses: int
  false_sure: float
  num_at_edge: int
  failures: Failures
  num_runs: int
  worst_task: str
  worst_ratio: float
  worst_diverged: bool

  @property
  def counts(self) -> tuple[int, int, int]:
    """Tasks won, tied and lost, which sum to all of them."""
    wins = [each.outcome.win for each in self.tasks]
    return wins.count(1.0), wins.count(0.5), wins.count(0.0)

  @property
  def loss_ratio_over_tasks(self) -> aggregate.Estimate | None:
    """The loss ratio with its interval over tasks too."""
    return _iqm(_with_ratio(self.tasks), over_tasks=True)


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
  with_speed_up = [each for each in tasks if each.speed_up is not None]
  ups = [each.speed_up for each in with_speed_up if each.speed_up is not None]
  with_ratio = _with_ratio(tasks)
  final = {each.task: _final(found, each.task, name, other) for each in tasks}
  diverged = {task: np.isinf(ours).any() for task, (ours, _) in final.items()}
  worst = min(
    (each for each in tasks if not np.isnan(each.ratio_of_means)),
    key=lambda each: (each.ratio_of_means, not diverged[each.task]),
    default=None,
  )
  won, won_over_tasks = _share_won(list(final.values()))
  held_out = [
    _held_out(found, each.task, name, other)
    for each in tasks
    if found.has_held_out_data(each.task)
  ]
  held_out = [pair for pair in held_out if pair[0].size]
  of_held_out = _share_won(held_out) if held_out else (None, None)
  failed, num_runs = all_failures(found, name)
  over_seeds, over_tasks = (
    _mean_speed_up(found, with_speed_up, over_tasks=each)
    for each in (False, True)
  )
  return Score(
    name=name,
    other=other,
    tasks=tasks,
    speed_up=over_seeds[0],
    speed_up_over_tasks=over_tasks[0],
    speed_up_at_most=over_seeds[1],
    speed_up_over_tasks_at_most=over_tasks[1],
    num_censored=sum(bool(up.censored) for up in ups),
    num_speed_ups=len(ups),
    speed_ratio=_iqm([each.speed_ratio for each in tasks]),
    loss_ratio=_iqm(with_ratio),
    num_without_ratio=len(tasks) - len(with_ratio),
    won=won,
    won_over_tasks=won_over_tasks,
    won_held_out=of_held_out[0],
    won_held_out_over_tasks=of_held_out[1],
    num_held_out=len(held_out),
    sure_wins=sum(each.outcome.p_better < paired.SURE for each in tasks),
    sure_losses=sum(each.outcome.p_worse < paired.SURE for each in tasks),
    false_sure=sum(
      paired.chance_below(paired.SURE, each.loss_ratio.size) for each in tasks
    ),
    num_at_edge=sum((each.task, other) in found.at_edge for each in tasks),
    failures=failed,
    num_runs=num_runs,
    worst_task=worst.task if worst else "",
    worst_ratio=worst.ratio_of_means if worst else float("nan"),
    worst_diverged=bool(worst and diverged[worst.task]),
  )


def _mean_speed_up(
  found: Standings, tasks: Sequence[TaskScore], *, over_tasks: bool
) -> tuple[aggregate.Estimate | None, aggregate.Estimate | None]:
  """Returns the IQM of speed-ups, censored ones at their bounds, at infinity.

  For the intervals seeds are drawn anew, the same ones for both.
  """
  if not tasks:
    return None, None

  def values(task: str, censored: float, losses):
    found_there = speed_up(found, task, losses)
    return found_there.value + np.where(found_there.censored, censored, 0.0)

  least, most = (
    aggregate.bootstrap_of_tasks(
      [each.last_loss for each in tasks],
      [functools.partial(values, each.task, censored) for each in tasks],
      over_tasks=over_tasks,
    )
    for censored in (0.0, np.inf)
  )
  return least, most


def _with_ratio(tasks: Sequence[TaskScore]) -> list[np.ndarray]:
  """Returns the loss ratios of tasks that have them."""
  return [
    each.loss_ratio for each in tasks if not np.isnan(each.loss_ratio).any()
  ]


def _iqm(
  scores: Sequence[np.ndarray], *, over_tasks: bool = False
) -> aggregate.Estimate | None:
  scores = [each for each in scores if each.size]
  if not scores:
    return None
  return aggregate.bootstrap(scores, over_tasks=over_tasks)


def _final(found: Standings, task: str, name: str, other: str) -> Pair:
  """Returns final training losses of the common seeds."""
  ours, theirs, (i, j) = common_runs(found, task, name, other)
  return ours.losses[i], theirs.losses[j]


def _held_out(found: Standings, task: str, name: str, other: str) -> Pair:
  """Returns final held-out losses of the common seeds."""
  ours, theirs = (found.held_out[task].get(each, {}) for each in (name, other))
  common = sorted(set(ours) & set(theirs))
  return (
    np.asarray([ours[seed] for seed in common]),
    np.asarray([theirs[seed] for seed in common]),
  )


def _share_won(
  pairs: Sequence[Pair],
) -> tuple[aggregate.Estimate, aggregate.Estimate]:
  """Returns the share of tasks won, with intervals over seeds and tasks too.

  Runs of both optimizers are drawn together, task by task.
  """
  num_resamples, rng = 1000, np.random.default_rng(0)
  value, drawn = 0.0, np.zeros((num_resamples, len(pairs)))
  for i, (losses, others) in enumerate(pairs):
    value += float(paired.is_better(losses, others))
    picks = rng.integers(losses.size, size=(num_resamples, losses.size))
    drawn[:, i] = paired.is_better(losses[picks], others[picks])
  value /= len(pairs)
  over_seeds = over_tasks = aggregate.no_interval(value)
  if any(losses.size > 1 for losses, _ in pairs):
    over_seeds = aggregate.interval(value, drawn.mean(axis=1))
  if len(pairs) > 1:
    again = aggregate.redraw_tasks(drawn, seed=1)
    over_tasks = aggregate.interval(value, again.mean(axis=1))
  return over_seeds, over_tasks
