"""Data without limit: examples made from the key, inside `jit`.

A generator's fixed choices (a teacher's weights, templates) come from a
seed that depends on the part, and keys are folded with the split, so that
neither parts nor splits repeat an example, but with negligible probability.

Main names: `GeneratedData`, `register_generator`.
"""

import zlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from tasks.base import SPLITS, check_split
from tasks.data import images
from tasks.data.base import PARTS, DataSet
from tasks.data.sources import register

# From key, seed of the part, and batch size to fields.
Generator = Callable[[PRNGKeyArray, int, int], dict[str, Array]]


class GeneratedData(DataSet):
  """Batches made by a generator.

  Args:
    name: Name of the source.
    part: One of `tasks.data.PARTS`.
    generate: Makes a batch.
    num_classes: Number of classes of `label`; `None` if there are none.
  """

  def __init__(
    self,
    name: str,
    part: str,
    generate: Generator,
    num_classes: int | None = None,
  ):
    self.name = name
    self.part = part
    self._generate = generate
    self._num_classes = num_classes
    self._seed = name_seed(name, part)
    self._size: int | None = None

  def sample(
    self, key: PRNGKeyArray, split: str, batch_size: int
  ) -> dict[str, Array]:
    key = stream_key(key, self.part, split)
    batch = self._generate(key, self._seed, batch_size)
    if self._size is None:
      return batch
    return {**batch, "image": _resize(batch["image"], self._size)}

  def resized(self, size: int) -> "GeneratedData":
    smaller = GeneratedData(
      f"{self.name}@{size}", self.part, self._generate, self._num_classes
    )
    smaller._seed = self._seed
    smaller._size = size
    return smaller

  def field_shape(self, field: str) -> tuple[int, ...]:
    shapes = jax.eval_shape(
      lambda key: self.sample(key, "train", 1), jax.random.key(0)
    )
    return shapes[field].shape[1:]

  @property
  def num_classes(self) -> int:
    return self._num_classes or super().num_classes

  def __len__(self) -> int:
    return 0


def register_generator(
  name: str, num_classes: int | None = None
) -> Callable[[Generator], Generator]:
  """Returns a decorator that registers a generator as a data source."""

  def decorate(generate: Generator) -> Generator:
    def load(part: str, data_dir: str | None = None) -> GeneratedData:
      del data_dir
      return GeneratedData(name, part, generate, num_classes)

    register(name)(load)
    return generate

  return decorate


def choices(seed: int) -> np.random.RandomState:
  """Returns the source of a generator's fixed choices.

  Numpy's legacy generator gives the same numbers under every version, and
  what it gives is a constant of the compiled program.
  """
  return np.random.RandomState(seed)


def stream_key(key: PRNGKeyArray, part: str, split: str) -> PRNGKeyArray:
  """Returns a key that differs between all parts and splits."""
  check_split(split)
  stream = PARTS.index(part) * len(SPLITS) + SPLITS.index(split)
  return jax.random.fold_in(key, stream)


def name_seed(name: str, part: str) -> int:
  """Returns the seed of fixed choices: equal on every machine."""
  return zlib.crc32(f"{name}/{part}".encode()) >> 1


def _resize(image: Array, size: int) -> Array:
  """Averages pixels by overlapping area."""
  if image.shape[2] == 1:  # A signal: shorten its one axis.
    rows = images.overlap(image.shape[1], size)
    return jnp.einsum("nhwc,yh->nywc", image, rows)
  rows, columns = (images.overlap(n, size) for n in image.shape[1:3])
  return jnp.einsum("nhwc,yh,xw->nyxc", image, rows, columns)
