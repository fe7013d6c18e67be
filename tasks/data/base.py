"""In-memory data with fixed parts and splits, sampled inside `jit`.

A data set is first cut into *parts* for meta-learning (`meta_train`,
`validation`, `held_out`: tasks of different suites never share an example)
and each part into *splits* for the inner problem (`train`, `valid`,
`test`). Both cuts are fixed by index: they depend on no seed of a run.

Main names: `DataSet`, `ArrayData`, `index_splits`, `range_splits`.
"""

import abc
import functools
import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from tasks import names
from tasks.base import SPLITS, check_split
from tasks.data import images

PARTS = ("meta_train", "validation", "held_out")
_PART_FRACTIONS = (0.5, 0.15, 0.35)
_SPLIT_FRACTIONS = (0.7, 0.15, 0.15)


class DataSet(abc.ABC):
  """One part of a source of data."""

  name: str
  part: str

  @abc.abstractmethod
  def sample(
    self, key: PRNGKeyArray, split: str, batch_size: int
  ) -> Mapping[str, Array]:
    """Draws a batch of `batch_size` examples, with replacement."""

  @abc.abstractmethod
  def field_shape(self, field: str) -> tuple[int, ...]:
    """Shape of one example's field."""

  @property
  def num_classes(self) -> int:
    """Number of classes of the field `label`, or of tokens."""
    raise ValueError(f"The data source {self.name!r} has no classes.")

  def resized(self, size: int) -> "DataSet":
    """Returns the same data with images of `size` x `size` pixels."""
    del size
    raise ValueError(f"The data source {self.name!r} can't be resized.")

  @abc.abstractmethod
  def __len__(self) -> int:
    """Number of training examples; 0 for a generator without limit."""


class SequenceData(DataSet):
  """One part of a source of token sequences."""

  @abc.abstractmethod
  def sample(
    self, key: PRNGKeyArray, split: str, batch_size: int, length: int = 32
  ) -> Mapping[str, Array]:
    """Draws sequences of `length` tokens `obs` and their next `target`."""


class ArrayData(DataSet):
  """Arrays with a common leading axis of examples.

  Args:
    name: Name of the source.
    part: One of `PARTS`.
    arrays: Arrays of equal length by field name. Unsigned bytes stand for
      pixels and become float32 in [0, 1] when a batch is drawn.
    indices: For each split the rows that belong to it.
  """

  def __init__(
    self,
    name: str,
    part: str,
    arrays: Mapping[str, np.ndarray],
    indices: Mapping[str, np.ndarray],
  ):
    for split, rows in indices.items():
      if not len(rows):
        raise ValueError(
          f"The part {part!r} of the data source {name!r} has no examples in"
          f" the split {split!r}; it needs a larger source."
        )
    self.name = name
    self.part = part
    self.indices = indices
    self._num_classes = (
      int(arrays["label"].max()) + 1 if "label" in arrays else None
    )
    self._arrays = arrays
    # Numpy arrays become constants of the program that samples from them.
    self._splits = {
      split: {field: values[rows] for field, values in arrays.items()}
      for split, rows in indices.items()
    }

  def sample(
    self, key: PRNGKeyArray, split: str, batch_size: int
  ) -> dict[str, Array]:
    check_split(split)
    arrays = self._splits[split]
    rows = random_rows(key, len(self.indices[split]), batch_size)
    return {
      field: _as_model_input(jnp.asarray(values)[rows])
      for field, values in arrays.items()
    }

  def field_shape(self, field: str) -> tuple[int, ...]:
    if field not in self._arrays:
      raise names.unknown_name(
        f"field of the data source {self.name!r}", field, self._arrays
      )
    return self._arrays[field].shape[1:]

  @property
  def num_classes(self) -> int:
    return self._num_classes or super().num_classes

  def resized(self, size: int) -> "ArrayData":
    arrays = dict(self._arrays)
    arrays["image"] = images.resize(arrays["image"], size)
    return ArrayData(f"{self.name}@{size}", self.part, arrays, self.indices)

  def __len__(self) -> int:
    return len(self.indices["train"])


def random_rows(
  key: PRNGKeyArray, num_rows: int, batch_size: int
) -> Int[Array, "batch"]:
  """Draws row numbers below `num_rows`, two from each random word.

  Random words are a fifth of the cost of a step of a small MLP. Sixteen bits
  are scaled rather than reduced modulo `num_rows`; rows differ in
  probability by at most a fraction `num_rows` / 65536.
  """
  if num_rows > 1 << 14:
    return jax.random.randint(key, (batch_size,), 0, num_rows)
  words = jax.random.bits(key, (-(-batch_size // 2),), jnp.uint32)
  halves = jnp.concatenate([words >> 16, words & 0xFFFF])[:batch_size]
  return ((halves * jnp.uint32(num_rows)) >> 16).astype(jnp.int32)


def _as_model_input(values: Array) -> Array:
  if values.dtype == jnp.uint8:
    return values.astype(jnp.float32) * jnp.float32(1 / 255)
  return values


def index_splits(num_examples: int, part: str) -> dict[str, np.ndarray]:
  """Cuts shuffled examples into parts and splits.

  Args:
    num_examples: Number of examples in the whole source.
    part: One of `PARTS`.

  Returns:
    Rows of each split of the part. The shuffle is numpy's legacy generator
    with a fixed seed, whose stream numpy promises to keep.
  """
  order = np.random.RandomState(20211).permutation(num_examples)
  return {
    split: np.sort(order[begin:end])
    for split, (begin, end) in range_splits(num_examples, part).items()
  }


def range_splits(length: int, part: str) -> dict[str, tuple[int, int]]:
  """Cuts `range(length)` into contiguous parts, and a part into splits.

  Args:
    length: Length of the whole source.
    part: One of `PARTS`.

  Returns:
    For each split the half-open range (begin, end).
  """
  return split_range(*part_range(length, part))


def part_range(length: int, part: str) -> tuple[int, int]:
  """Returns the half-open range of a part of `range(length)`."""
  check_part(part)
  return _cut(0, length, _PART_FRACTIONS)[PARTS.index(part)]


def split_range(begin: int, end: int) -> dict[str, tuple[int, int]]:
  """Returns the half-open range of each split of `range(begin, end)`."""
  return dict(zip(SPLITS, _cut(begin, end, _SPLIT_FRACTIONS)))


@functools.lru_cache(maxsize=256)
def _cut(
  begin: int, end: int, fractions: tuple[float, ...]
) -> tuple[tuple[int, int], ...]:
  edges = begin + np.round(np.cumsum((0.0, *fractions)) * (end - begin)).astype(
    int
  )
  return tuple((int(a), int(b)) for a, b in itertools.pairwise(edges))


def check_part(part: str) -> None:
  """Raises a `ValueError` unless `part` is one of `PARTS`."""
  if part not in PARTS:
    raise names.unknown_name("part of the data", part, PARTS)
