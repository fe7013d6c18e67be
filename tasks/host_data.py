"""Batches from iterators on the host, by number, and ours as such iterators.

Tasks of learned_optimization may bring `datasets`: four endless iterators of
batches. An iterator can only go on, but training must be able to resume and
evaluation must find the same batches whenever it looks. `NumberedDatasets`
therefore numbers the batches of each iterator and keeps the first ones: these
are the pool for evaluation, and the later ones are for meta-training, each
read once and in order. To resume at batch n is to draw and drop what comes
before n, so it is exact if the iterators yield the same batches whenever they
are made anew: those over arrays in memory with a fixed seed do.

For the training loops of learned_optimization `HostDatasets` offers the
batches of one of our tasks as such iterators, held-out ones included.

Main names: `NumberedDatasets`, `HostDatasets`.
"""

import threading
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from tasks.base import Batch, Task
from tasks.errors import TaskError

#: Splits of host iterators, and what they are in our tasks.
SPLITS = {
  "train": "train",
  "inner_valid": "valid",
  "outer_valid": "valid",
  "test": "test",
}
#: The pool of an iterator: as many batches as fit, within bounds.
POOL_BYTES, MIN_POOL, MAX_POOL = 2**25, 8, 256


class NumberedDatasets:
  """Host iterators whose batches can be read by number; final.

  Args:
    datasets: Object with the attributes `train`, `inner_valid`,
      `outer_valid` and `test`: endless iterators of pytrees of arrays, of
      the same shapes in every batch. Other attributes remain visible.
  """

  def __init__(self, datasets: Any):
    self._datasets = datasets
    self._numbered: dict[str, _Numbered] = {}

  def pool(self, split: str) -> Batch:
    """Returns the first batches of a split, which are kept.

    Args:
      split: `"train"`, `"inner_valid"`, `"outer_valid"` or `"test"`.

    Returns:
      Numpy arrays with a leading axis of batches: at least 8, at most 256,
      and in between as many as fit into 32 MiB.
    """
    return self._of(split).pool()

  def read(self, split: str, start: int, count: int) -> Batch:
    """Reads batches behind the pool; what comes before them is gone.

    Args:
      split: As for `pool`.
      start: Number of the first batch, counted from the end of the pool.
      count: How many batches.

    Returns:
      Numpy arrays with a leading axis of `count` batches.

    Raises:
      ValueError: If the batch `start` was read before, the iterator ends, or
        its batches are not arrays of equal shapes.
    """
    return self._of(split).read(start, count)

  def _of(self, split: str) -> "_Numbered":
    _check(split)
    if split not in self._numbered:
      iterator = getattr(self._datasets, split)
      self._numbered[split] = _Numbered(split, iterator)
    return self._numbered[split]

  def __getattr__(self, name: str) -> Any:
    return getattr(self._datasets, name)


class _Numbered:
  """The batches of one iterator; threads take turns."""

  def __init__(self, split: str, iterator: Iterator[Batch]):
    self._split = split
    self._iterator = iter(iterator)
    self._lock = threading.RLock()
    self._pool: Batch = None
    self._drawn = 0  # Batches behind the pool.

  def pool(self) -> Batch:
    with self._lock:
      if self._pool is None:
        first = self._next()
        size = sum(np.asarray(x).nbytes for x in jax.tree.leaves(first))
        fitting = POOL_BYTES // max(size, 1)
        count = int(np.clip(fitting, MIN_POOL, MAX_POOL))
        self._pool = self._stack([first, *self._draw(count - 1)])
      return self._pool

  def read(self, start: int, count: int) -> Batch:
    with self._lock:
      self.pool()
      if start < self._drawn:
        raise ValueError(
          f"Batch {start} of the iterator {self._split!r} has been read before,"
          f" and iterators do not go back (it is at {self._drawn}); make the"
          " task and its datasets anew."
        )
      for _ in range(start - self._drawn):
        self._next()
      batches = self._draw(count)
      self._drawn = start + count
      return self._stack(batches)

  def _draw(self, count: int) -> list[Batch]:
    return [self._next() for _ in range(count)]

  def _next(self) -> Batch:
    try:
      return next(self._iterator)
    except StopIteration:
      raise TaskError(
        f"The iterator {self._split!r} of the task's datasets has ended, but"
        " must be endless; repeat it, for instance with itertools.cycle."
      ) from None

  def _stack(self, batches: list[Batch]) -> Batch:
    try:
      stacked = jax.tree.map(lambda *x: np.stack(x), *batches)
    except ValueError as error:
      raise TaskError(
        f"The batches of the iterator {self._split!r} differ in structure or"
        f" shape ({error}), but must be alike; pad or drop the last batch of"
        " an epoch."
      ) from error
    kinds = {x.dtype.kind for x in jax.tree.leaves(stacked)}
    if kinds - set("biufc"):
      raise TaskError(
        f"A batch of the iterator {self._split!r} has entries that are not"
        f" numbers ({', '.join(sorted(_dtypes(stacked)))}); leave them out."
      )
    return stacked


class HostDatasets:
  """Batches of a task as host iterators, one for each split; final.

  Args:
    task: A task that draws its own data.
    seed: Seed of all batches.
  """

  def __init__(self, task: Task, *, seed: int = 0):
    self.extra_info: dict[str, Any] = {}
    self._task = task
    self._keys = jax.random.split(jax.random.key(seed), len(SPLITS))
    self.train = self._iterate("train")
    self.inner_valid = self._iterate("inner_valid")
    self.outer_valid = self._iterate("outer_valid")
    self.test = self._iterate("test")

  @property
  def abstract_batch(self) -> Any:
    """Shapes and dtypes of a batch."""
    return jax.eval_shape(self._task.sample_batch, jax.random.key(0))

  def split(self, name: str) -> Iterator[Batch]:
    """Returns the iterator of a split."""
    _check(name)
    return getattr(self, name)

  def _iterate(self, name: str) -> Iterator[Batch]:
    draw = jax.jit(lambda key: self._task.sample_batch(key, SPLITS[name]))
    key = self._keys[list(SPLITS).index(name)]
    step = 0
    while True:
      yield jax.tree.map(np.asarray, draw(jax.random.fold_in(key, step)))
      step += 1


def _check(split: str) -> None:
  if split not in SPLITS:
    raise ValueError(f"split={split!r} must be one of {', '.join(SPLITS)}.")


def _dtypes(batch: Batch) -> set[str]:
  return {str(x.dtype) for x in jax.tree.leaves(batch)}
