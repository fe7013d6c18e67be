"""Batches of the host for the outer steps, read one outer step ahead.

Families whose data come from iterators need new batches for each unroll; the
perturbed copies of a task share them. With S inner steps per call of the
estimator and N tasks, outer step n gives task i the batches (n N + i) S to
(n N + i + 1) S of the family's training iterator. This depends on nothing but
n, so a run that resumes sees what it would have seen, provided that the
iterator, made anew, yields the same batches in the same order; it is then
drawn from until it is where the run stopped.

While the devices work, a thread draws the batches of the next outer step.

Main names: `Feed`.
"""

import concurrent.futures
from collections.abc import Sequence
from typing import Any

import jax

from meta_train.errors import UserError


class Feed:
  """Batches by outer step; outer steps must not go back.

  Args:
    families: the task families; those that aren't hosted need no batches.
    fed_steps: inner steps for which a call of the estimator takes batches, one
      number per family.
    num_tasks: tasks per family.
    numbers: the tasks to read for; `None`: all. Batches of the other tasks,
      which other processes read, are skipped.
  """

  def __init__(
    self,
    families: Sequence[Any],
    fed_steps: Sequence[int],
    *,
    num_tasks: int,
    numbers: range | None = None,
  ):
    self._sources = [
      (getattr(family, "datasets", None), steps)
      for family, steps in zip(families, fed_steps, strict=True)
    ]
    self._num_tasks = num_tasks
    self._numbers = range(num_tasks) if numbers is None else numbers
    self._thread: concurrent.futures.ThreadPoolExecutor | None = None
    self._ahead: tuple[int, Any] | None = None

  @property
  def empty(self) -> bool:
    """Whether no family needs batches."""
    return all(datasets is None for datasets, _ in self._sources)

  def take(self, outer_step: int) -> tuple[Any, ...]:
    """Returns the batches of an outer step, and begins to read the next.

    Args:
      outer_step: number of the outer step.

    Returns:
      For each family `None`, or host arrays [tasks, inner steps, ...].

    Raises:
      UserError: an iterator has no such batches.
    """
    if self.empty:
      return (None,) * len(self._sources)
    if self._thread is None:
      self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1)
    ahead, self._ahead = self._ahead, None
    if ahead is None or ahead[0] != outer_step:
      ahead = outer_step, self._thread.submit(self._read, outer_step)
    try:
      batches = ahead[1].result()
    except ValueError as error:
      raise UserError(f"the task's datasets: {error}") from error
    following = outer_step + 1
    self._ahead = following, self._thread.submit(self._read, following)
    return batches

  def _read(self, outer_step: int) -> tuple[Any, ...]:
    return tuple(
      None
      if datasets is None
      else self._read_family(datasets, steps, outer_step)
      for datasets, steps in self._sources
    )

  def _read_family(self, datasets, steps: int, outer_step: int) -> Any:
    first = outer_step * self._num_tasks + self._numbers.start
    count = len(self._numbers)
    batches = datasets.read("train", first * steps, count * steps)
    return jax.tree.map(
      lambda x: x.reshape(count, steps, *x.shape[1:]), batches
    )
