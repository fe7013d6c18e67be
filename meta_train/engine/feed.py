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
from collections.abc import Iterable, Sequence
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
    self._sources = {
      number: (family.datasets, steps)
      for number, (family, steps) in enumerate(zip(families, fed_steps))
      if getattr(family, "datasets", None) is not None
    }
    self._num_tasks = num_tasks
    self._numbers = range(num_tasks) if numbers is None else numbers
    self._thread: concurrent.futures.ThreadPoolExecutor | None = None
    self._ahead: dict[tuple[int, int], concurrent.futures.Future] = {}

  def shapes(self, family: int) -> Any:
    """Returns shapes and dtypes of the batches of a family."""
    if family not in self._sources:
      return None
    datasets, steps = self._sources[family]
    leading = len(self._numbers), steps
    return jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(
        (*leading, *x.shape[1:]), jax.dtypes.canonicalize_dtype(x.dtype)
      ),
      datasets.pool("train"),
    )

  def take(
    self, outer_step: int, visited: Iterable[int], following: Iterable[int]
  ) -> dict[int, Any]:
    """Returns the batches of an outer step, and begins to read the next.

    Args:
      outer_step: number of the outer step.
      visited: numbers of the families that it visits.
      following: numbers of those that the next one visits.

    Returns:
      Host arrays [tasks, inner steps, ...] for each hosted family of
      `visited`.

    Raises:
      UserError: an iterator has no such batches.
    """
    for family in visited:
      self._submit(family, outer_step)
    taken = [(f, self._ahead.pop((f, outer_step), None)) for f in visited]
    self._ahead.clear()
    for family in following:
      self._submit(family, outer_step + 1)
    try:
      return {f: future.result() for f, future in taken if future is not None}
    except ValueError as error:
      raise UserError(f"the task's datasets: {error}") from error

  def _submit(self, family: int, outer_step: int) -> None:
    if family not in self._sources or (family, outer_step) in self._ahead:
      return
    if self._thread is None:
      self._thread = concurrent.futures.ThreadPoolExecutor(max_workers=1)
    read = self._thread.submit(self._read, family, outer_step)
    self._ahead[family, outer_step] = read

  def _read(self, family: int, outer_step: int) -> Any:
    datasets, steps = self._sources[family]
    first = outer_step * self._num_tasks + self._numbers.start
    count = len(self._numbers)
    batches = datasets.read("train", first * steps, count * steps)
    return jax.tree.map(
      lambda x: x.reshape(count, steps, *x.shape[1:]), batches
    )
