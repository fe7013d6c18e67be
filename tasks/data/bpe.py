"""Byte-pair encoding, small and in numpy.

The most frequent pair of neighbouring tokens becomes a new token, again and
again (Sennrich et al., "Neural machine translation of rare words with
subword units", 2016). Pairs never reach across a space or a newline: a
merged token may begin with one, and may not contain one further on.

Main names: `train`, `encode`, `decode`.
"""

import numpy as np

_SPACES = (9, 10, 13, 32)


def train(text: bytes, vocab_size: int) -> list[tuple[int, int]]:
  """Learns merges.

  Args:
    text: Training text.
    vocab_size: Number of tokens; the first 256 are the bytes.

  Returns:
    Pairs of tokens in order; merge `i` makes token `256 + i`. Ties go to
    the smaller pair, so that the result is deterministic.
  """
  if not 256 <= vocab_size <= 1 << 16:
    raise ValueError(
      f"vocab_size={vocab_size} must be in 256..65536: the bytes come first."
    )
  tokens = np.frombuffer(text, np.uint8).astype(np.int64)
  merges: list[tuple[int, int]] = []
  starts_word = np.zeros(vocab_size, bool)
  starts_word[list(_SPACES)] = True
  while len(merges) < vocab_size - 256:
    pairs = (tokens[:-1] << 16) | tokens[1:]
    pairs = pairs[~starts_word[tokens[1:]]]
    values, counts = np.unique(pairs, return_counts=True)
    if not len(counts) or counts.max() < 2:
      break
    best = int(values[np.argmax(counts)])
    pair = (best >> 16, best & 0xFFFF)
    new = 256 + len(merges)
    starts_word[new] = starts_word[pair[0]]
    tokens = _merge(tokens, pair, new)
    merges.append(pair)
  return merges


def encode(text: bytes, merges: list[tuple[int, int]]) -> np.ndarray:
  """Turns text into tokens by applying the merges in order."""
  tokens = np.frombuffer(text, np.uint8).astype(np.int64)
  for i, pair in enumerate(merges):
    tokens = _merge(tokens, pair, 256 + i)
  return tokens


def decode(tokens: np.ndarray, merges: list[tuple[int, int]]) -> bytes:
  """Turns tokens back into text."""
  words = [bytes([i]) for i in range(256)]
  for left, right in merges:
    words.append(words[left] + words[right])
  return b"".join(words[int(t)] for t in tokens)


def _merge(tokens: np.ndarray, pair: tuple[int, int], new: int) -> np.ndarray:
  if len(tokens) < 2:
    return tokens
  hit = np.flatnonzero((tokens[:-1] == pair[0]) & (tokens[1:] == pair[1]))
  if pair[0] == pair[1] and len(hit):
    # Of overlapping hits in a run, as in "aaaa", every second one counts.
    begins = np.concatenate([[True], np.diff(hit) > 1])
    first = np.maximum.accumulate(np.where(begins, np.arange(len(hit)), 0))
    hit = hit[(np.arange(len(hit)) - first) % 2 == 0]
  merged = tokens.copy()
  merged[hit] = new
  return np.delete(merged, hit + 1)
