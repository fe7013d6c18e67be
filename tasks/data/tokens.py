"""A long sequence of tokens, sampled as windows.

Parts and splits are contiguous stretches, so that no held-out window
overlaps a training window.

Main names: `TokenData`, `byte_data`, `cut`.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from tasks.base import check_split
from tasks.data.base import SequenceData, range_splits

WINDOW = 128  # Longest window that every split can serve.


class TokenData(SequenceData):
  """Windows of a token sequence: `obs` and the next tokens `target`.

  Args:
    name: Name of the source.
    part: One of `tasks.data.PARTS`.
    splits: For each split its tokens, as integers below `vocab_size`.
    vocab_size: Number of different tokens.
  """

  def __init__(
    self,
    name: str,
    part: str,
    splits: Mapping[str, np.ndarray],
    vocab_size: int,
  ):
    self.name = name
    self.part = part
    self._vocab_size = vocab_size
    dtype = np.uint8 if vocab_size <= 256 else np.uint16
    self._splits = {split: t.astype(dtype) for split, t in splits.items()}
    shortest = min(len(t) for t in self._splits.values())
    if shortest <= WINDOW:
      raise ValueError(
        f"The text {name!r} is too short: one split of part {part!r} has"
        f" {shortest} tokens; give a text of at least {WINDOW * 50} tokens."
      )

  def sample(
    self, key: PRNGKeyArray, split: str, batch_size: int, length: int = 32
  ) -> dict[str, Array]:
    """Draws `batch_size` windows of `length` tokens."""
    check_split(split)
    if not 0 < length <= WINDOW:
      raise ValueError(f"length={length} must be in 1..{WINDOW}.")
    tokens = self._splits[split]
    start = jax.random.randint(key, (batch_size,), 0, len(tokens) - length)
    places = start[:, None] + jnp.arange(length + 1)
    window = jnp.asarray(tokens)[places].astype(jnp.int32)
    return {"obs": window[:, :-1], "target": window[:, 1:]}

  def field_shape(self, field: str) -> tuple[int, ...]:
    raise ValueError(f"The text {self.name!r} has no field of fixed shape.")

  @property
  def num_classes(self) -> int:
    return self._vocab_size

  def tokens(self, split: str) -> np.ndarray:
    """Returns all tokens of a split."""
    check_split(split)
    return self._splits[split]

  def __len__(self) -> int:
    return len(self._splits["train"])


def cut(text: bytes, part: str) -> dict[str, bytes]:
  """Cuts a text into the contiguous splits of a part."""
  return {
    split: text[begin:end]
    for split, (begin, end) in range_splits(len(text), part).items()
  }


def byte_data(name: str, part: str, text: bytes) -> TokenData:
  """Makes a data set whose tokens are bytes."""
  splits = {
    split: np.frombuffer(piece, np.uint8)
    for split, piece in cut(text, part).items()
  }
  return TokenData(name, part, splits, 256)
