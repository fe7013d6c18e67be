"""All optimizers at once: ranks, times to a target, performance profile.

Idea: these compare every optimizer with every other, and so are taken on the
tasks, and the seeds, that all of them have.

Names: `mean_losses`, `average_ranks`, `times_to_target`, `profile_of`.
"""

import numpy as np
from jaxtyping import Float

from meta_train.evaluation.baseline_runs import REFERENCE
from meta_train.evaluation.measures import profile, ranking, smoothing, speedup
from meta_train.evaluation.standings import Standings


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
    [
      found.runs[task][name].losses[_common(found, task, name)].mean()
      for name in found.optimizers
    ]
    for task in tasks
  ]
  shape = (len(tasks), len(found.optimizers))
  return tasks, np.asarray(losses, float).reshape(shape)


def _common(found: Standings, task: str, name: str) -> list[int]:
  """Returns which runs of an optimizer are from seeds that all others have."""
  seeds = found.runs[task][name].seeds
  return [seeds.index(seed) for seed in found.common_seeds(task)]


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
    curves = found.runs[task][optimizer].curves
    # Of a bare row there are none.
    if len(curves):
      curves = curves[_common(found, task, optimizer)]
    return smoothing.smooth(curves).mean(axis=0)

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
