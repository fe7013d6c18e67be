"""Intervals of numbers that two kinds of seeds go into.

Meta-training from another seed gives another optimizer, and an optimizer does
otherwise from another seed of the evaluation. With x_tks what was measured on
task t, of the optimizer of meta-seed k, from evaluation seed s, a statistic is
of all x together, and a draw of the *crossed bootstrap* takes

  x_(t, k_i, s_tj)  for i = 1, ..., K and j = 1, ..., S,

where the meta-seeds k_i are drawn with replacement once for all tasks, because
it is one optimizer that meets them all, and the evaluation seeds s_tj are
drawn for each task by itself. Percentiles of the statistic over draws are the
ends of the interval. It says how much other seeds would change the number, not
other tasks. K meta-seeds show (K - 1) / K of their own variance, and a single
one shows nothing of it.

Source: A. Owen, "The Pigeonhole Bootstrap", 2007 (rows and columns of a crossed
design are drawn separately); R. Agarwal et al., "Deep Reinforcement Learning at
the Edge of the Statistical Precipice", 2021 (strata are tasks).

Names: `bootstrap`.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from meta_train.evaluation.measures.aggregate import Estimate, interval

#: Per task: what belongs together, such as two losses, of each run.
Tasks = Sequence[Float[np.ndarray, "parts meta_seeds seeds"]]
Statistic = Callable[
  [Sequence[Float[np.ndarray, "parts draws runs"]]], Float[np.ndarray, "draws"]
]


def bootstrap(
  tasks: Tasks,
  statistic: Statistic,
  *,
  num_resamples: int = 2000,
  confidence: float = 0.95,
  seed: int = 0,
) -> Estimate:
  """Returns a statistic with its interval over both kinds of seeds.

  Args:
    tasks: what was measured; meta-seeds are the same for all tasks, and there
      may be as many evaluation seeds to a task as one likes.
    statistic: maps a list over tasks of [parts, draws, runs] to [draws]; the
      order of runs means nothing.
    num_resamples: draws.
    confidence: coverage that the interval aims at.
    seed: of the draws.

  Raises:
    ValueError: there is no task, one without runs, or one with other
      meta-seeds.
  """
  tasks = [np.asarray(task, np.float64) for task in tasks]
  if (
    not tasks
    or any(task.size == 0 for task in tasks)
    or len({task.shape[1] for task in tasks}) > 1
  ):
    raise ValueError(
      "a crossed bootstrap needs runs of the same meta-seeds, at least one, on "
      "each task"
    )
  value = statistic([task.reshape(len(task), 1, -1) for task in tasks])[0]
  rng = np.random.default_rng(seed)
  count = tasks[0].shape[1]
  meta = rng.integers(count, size=(num_resamples, count, 1))
  drawn = []
  for task in tasks:
    size = task.shape[2]
    seeds = rng.integers(size, size=(num_resamples, 1, size))
    picked = task[:, meta, seeds]
    drawn.append(picked.reshape(len(task), num_resamples, -1))
  return interval(float(value), statistic(drawn), confidence=confidence)
