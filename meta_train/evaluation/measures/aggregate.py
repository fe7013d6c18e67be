"""Scores of many tasks and seeds as one number with an interval.

The *interquartile mean* (IQM) is the mean of the middle half of all scores of
all tasks together: with the n scores sorted and k = floor(n / 4),

  IQM = mean of x_(k+1), ..., x_(n-k).

Its interval is that of a *stratified bootstrap*: the seeds of each task are
drawn anew with replacement, each task for itself, and the percentiles of the
statistic over such draws are its ends. It says how much another set of seeds
on the same tasks would change the number, not another set of tasks; for that
tasks are drawn too. Where a score belongs to a task and not to a run, as a
function of its runs, it is taken anew from each draw of them.

An interval is widened to its number where draws lie to one side of it: a
diverged run, for example, is in the number but not in every draw. A single run
of each task, or a single task where tasks are drawn, shows nothing of what
another would change: there is no interval then.

Infinite scores are fine as long as the middle half has none. NaN is refused:
whoever calls decides what a score that does not exist means.

Source: R. Agarwal et al., "Deep Reinforcement Learning at the Edge of the
Statistical Precipice", 2021 (rliable).

Names: `iqm`, `middle_half`, `bootstrap`, `bootstrap_of_tasks`, `redraw_tasks`,
`interval`, `no_interval`, `Estimate`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

Strata = Sequence[Float[np.ndarray, "runs"]]


class Estimate(NamedTuple):
  """A number and its interval.

  Attributes:
    value: the number.
    low: lower end of its interval; NaN where there is none.
    high: upper end, likewise.
  """

  value: float
  low: float
  high: float

  @property
  def has_interval(self) -> bool:
    """Whether there is an interval."""
    return not np.isnan(self.low)


def middle_half(ordered: Any) -> Any:
  """Returns what an interquartile mean is the mean of.

  Args:
    ordered: a sequence in rising order; of an array, its first axis is.
  """
  cut = len(ordered) // 4
  return ordered[cut : len(ordered) - cut]


def iqm(
  scores: Float[np.ndarray, "*draws scores"],
) -> Float[np.ndarray, "*draws"]:
  """Returns the interquartile mean over the last axis.

  Args:
    scores: numbers, at least one; not NaN.

  Raises:
    ValueError: there is none, or one is NaN.
  """
  scores = np.sort(np.asarray(scores, np.float64), axis=-1)
  size = scores.shape[-1]
  if size == 0 or np.isnan(scores).any():
    raise ValueError(
      f"the interquartile mean of {size} scores, of which "
      f"{int(np.isnan(scores).sum())} are NaN, is not defined; leave tasks "
      "without a score out"
    )
  return middle_half(scores.T).mean(axis=0).T


def bootstrap(
  scores: Strata,
  statistic: Callable[[np.ndarray], np.ndarray] = iqm,
  *,
  over_tasks: bool = False,
  num_resamples: int = 2000,
  confidence: float = 0.95,
  seed: int = 0,
) -> Estimate:
  """Returns a statistic of all scores with its stratified interval.

  Args:
    scores: for each task the scores of its runs; they may differ in number.
    statistic: maps [draws, scores] to [draws].
    over_tasks: whether tasks are drawn with replacement too.
    num_resamples: draws.
    confidence: coverage that the interval aims at.
    seed: of the draws.

  Raises:
    ValueError: there is no score, or a task without one.
  """
  tasks = [np.asarray(task, np.float64) for task in scores]
  if not tasks or any(task.size == 0 for task in tasks):
    raise ValueError("a bootstrap needs at least one score of each task")
  value = float(statistic(np.concatenate(tasks)[None])[0])
  if len(tasks) == 1 if over_tasks else _are_single(tasks):
    return no_interval(value)
  rng = np.random.default_rng(seed)
  if over_tasks:
    drawn = [_redraw(tasks, rng) for _ in range(num_resamples)]
    values = np.asarray([statistic(d[None])[0] for d in drawn])
  else:
    drawn = [
      task[rng.integers(task.size, size=(num_resamples, task.size))]
      for task in tasks
    ]
    values = statistic(np.concatenate(drawn, axis=1))
  return interval(value, values, confidence=confidence)


def bootstrap_of_tasks(
  runs: Strata,
  scores: Sequence[Callable[[np.ndarray], np.ndarray]],
  *,
  over_tasks: bool = False,
  num_resamples: int = 2000,
  confidence: float = 0.95,
  seed: int = 0,
) -> Estimate:
  """Returns the IQM over tasks of scores that each take all runs of a task.

  Args:
    runs: for each task what its score is made from, run by run.
    scores: for each task a function from [draws, runs] to [draws].
    over_tasks: whether tasks are drawn with replacement too.
    num_resamples: draws of the runs, each task for itself.
    confidence: coverage that the interval aims at.
    seed: of the draws.

  Raises:
    ValueError: there is no task, or one without runs.
  """
  tasks = [np.asarray(task, np.float64) for task in runs]
  if not tasks or any(task.size == 0 for task in tasks):
    raise ValueError("a bootstrap needs at least one run of each task")
  rng = np.random.default_rng(seed)
  value = iqm(np.asarray([s(t[None])[0] for t, s in zip(tasks, scores)]))
  if len(tasks) == 1 if over_tasks else _are_single(tasks):
    return no_interval(float(value))
  drawn = np.stack(
    [
      score(task[rng.integers(task.size, size=(num_resamples, task.size))])
      for task, score in zip(tasks, scores)
    ],
    axis=1,
  )
  if over_tasks:
    drawn = redraw_tasks(drawn, seed=seed + 1)
  return interval(float(value), iqm(drawn), confidence=confidence)


def redraw_tasks(
  drawn: Float[np.ndarray, "draws tasks"], *, seed: int = 0
) -> Float[np.ndarray, "draws tasks"]:
  """Returns draws of tasks, from scores that each draw of runs gave them.

  A task that is in a draw twice has runs of its own in each place, so every
  place takes one of its task's scores at random.

  Args:
    drawn: score of each task in each draw of its runs.
    seed: of the draws.
  """
  num_draws, num_tasks = drawn.shape
  rng = np.random.default_rng(seed)
  tasks = rng.integers(num_tasks, size=drawn.shape)
  return drawn[rng.integers(num_draws, size=drawn.shape), tasks]


def no_interval(value: float) -> Estimate:
  """Returns a number that nothing is known about how sure it is."""
  return Estimate(value, np.nan, np.nan)


def interval(
  value: float,
  drawn: Float[np.ndarray, "draws"],
  *,
  confidence: float = 0.95,
) -> Estimate:
  """Returns a number with the percentiles of its draws.

  Args:
    value: the number.
    drawn: what it is in each draw.
    confidence: coverage that the interval aims at.
  """
  tail = (1.0 - confidence) / 2.0
  # Interpolating between infinities would give NaN; the nearest does not.
  low, high = np.quantile(drawn, [tail, 1.0 - tail], method="nearest")
  return Estimate(value, min(value, float(low)), max(value, float(high)))


def _are_single(tasks: Strata) -> bool:
  """Returns whether each task has one run."""
  return all(task.size == 1 for task in tasks)


def _redraw(tasks, rng) -> np.ndarray:
  picked = rng.integers(len(tasks), size=len(tasks))
  return np.concatenate(
    [tasks[i][rng.integers(tasks[i].size, size=tasks[i].size)] for i in picked]
  )
