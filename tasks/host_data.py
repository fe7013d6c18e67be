"""Batches from host iterators, and our batches as host iterators.

Tasks of learned_optimization may bring `datasets`, four iterators on the
host: `host_batches` stacks their batches for one unroll. For its training
loops `HostDatasets` offers the batches of one of our tasks as such
iterators.

Main names: `host_batches`, `HostDatasets`.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from tasks.base import Batch, Task

_SPLITS = {
  "train": "train",
  "inner_valid": "valid",
  "outer_valid": "valid",
  "test": "test",
}


def host_batches(
  datasets: Any, shape: tuple[int, ...], split: str = "train"
) -> Batch:
  """Draws batches from host iterators and stacks them.

  Args:
    datasets: Object with an iterator per split, or `None`.
    shape: Leading axes, for instance (steps, tasks).
    split: `"train"`, `"inner_valid"`, `"outer_valid"` or `"test"`.

  Returns:
    Numpy arrays with `shape` before the axes of one batch; `None` where
    there are no data sets.
  """
  if datasets is None:
    return None
  if split not in _SPLITS:
    raise ValueError(f"split={split!r} must be one of {', '.join(_SPLITS)}.")
  iterator = getattr(datasets, split)
  batches = [next(iterator) for _ in range(int(np.prod(shape)))]
  return jax.tree.map(
    lambda *x: np.stack(x).reshape(*shape, *np.shape(x[0])), *batches
  )


class HostDatasets:
  """Batches of a task as host iterators, one for each split.

  Args:
    task: A task that draws its own data.
    seed: Seed of all batches.
  """

  def __init__(self, task: Task, *, seed: int = 0):
    self.extra_info: dict[str, Any] = {}
    self._task = task
    self._keys = jax.random.split(jax.random.key(seed), len(_SPLITS))
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
    if name not in _SPLITS:
      raise ValueError(f"split={name!r} must be one of {', '.join(_SPLITS)}.")
    return getattr(self, name)

  def _iterate(self, name: str) -> Iterator[Batch]:
    draw = jax.jit(lambda key: self._task.sample_batch(key, _SPLITS[name]))
    key = self._keys[list(_SPLITS).index(name)]
    step = 0
    while True:
      yield jax.tree.map(np.asarray, draw(jax.random.fold_in(key, step)))
      step += 1
