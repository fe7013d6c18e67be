"""Generators of formal languages, as windows of tokens.

`dyck`: well-nested brackets of four kinds, the classical context-free
language. `modular`: sums `a + b = c` modulo a prime, one after another (A.
Power et al., "Grokking", 2022). `recall`: keys and values, then a key asks
for its value (J. Ba et al., "Using fast weights to attend to the recent
past", 2016).

All give `obs`, `target` and `weight`, which is 0 where the next token can't
be known.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from tasks.data.base import SequenceData
from tasks.data.generated import choices, name_seed, stream_key
from tasks.data.sources import register

_KINDS = 4  # Kinds of brackets.
_DEPTH = 8  # Brackets nest no deeper.
_PRIME = 23
_SYMBOLS = 8  # Keys, and values.


class Language(SequenceData):
  """A formal language; abstract in `generate`."""

  def __init__(self, name: str, part: str, vocab_size: int, generate):
    self.name = name
    self.part = part
    self._vocab_size = vocab_size
    self._generate = generate
    self._seed = name_seed(name, part)

  def sample(
    self, key: PRNGKeyArray, split: str, batch_size: int, length: int = 32
  ) -> dict[str, Array]:
    """Draws `batch_size` sequences of `length` tokens."""
    key = stream_key(key, self.part, split)
    generate = lambda k: self._generate(k, self._seed, length + 1)  # noqa: E731
    tokens, known = jax.vmap(generate)(jax.random.split(key, batch_size))
    return {
      "obs": tokens[:, :-1],
      "target": tokens[:, 1:],
      "weight": known[:, 1:].astype(jnp.float32),
    }

  def field_shape(self, field: str) -> tuple[int, ...]:
    raise ValueError(
      f"The language {self.name!r} has no fields of fixed shape."
    )

  @property
  def num_classes(self) -> int:
    return self._vocab_size

  def __len__(self) -> int:
    return 0


def dyck(key: PRNGKeyArray, seed: int, length: int) -> tuple[Array, Array]:
  """Nested brackets; a closing bracket, once chosen, is determined.

  Parts differ in the frequencies of the kinds.
  """
  frequency = jnp.asarray(choices(seed).normal(size=_KINDS), jnp.float32)

  open_key, kind_key = jax.random.split(key)
  wishes = jax.random.bernoulli(open_key, 0.5, (length,))
  kinds = jax.random.categorical(kind_key, frequency, shape=(length,))
  levels = jnp.arange(_DEPTH)

  def step(carry, now):
    depth, stack = carry
    wish, kind = now
    opens = (depth == 0) | (wish & (depth < _DEPTH))
    top = jnp.sum(jnp.where(levels == depth - 1, stack, 0))
    token = jnp.where(opens, kind, _KINDS + top)
    stack = jnp.where(opens & (levels == depth), kind, stack)
    return (depth + jnp.where(opens, 1, -1), stack), token

  carry = jnp.zeros((), jnp.int32), jnp.zeros((_DEPTH,), jnp.int32)
  _, tokens = jax.lax.scan(step, carry, (wishes, kinds))
  return tokens, jnp.ones((length,), bool)


def modular(key: PRNGKeyArray, seed: int, length: int) -> tuple[Array, Array]:
  """Sums `a b c` with c = (m a + b) mod 23, where `m` differs by part."""
  multiplier = 1 + seed % (_PRIME - 1)
  count = -(-length // 3)
  a, b = jax.random.randint(key, (2, count), 0, _PRIME)
  triples = jnp.stack([a, b, (multiplier * a + b) % _PRIME], axis=-1)
  known = jnp.tile(jnp.array([False, False, True]), count)
  return triples.reshape(-1)[:length], known[:length]


def recall(key: PRNGKeyArray, seed: int, length: int) -> tuple[Array, Array]:
  """Pairs of key and value; known once the key was seen before.

  Parts differ in the frequencies of the keys.
  """
  frequency = jnp.asarray(
    choices(seed).normal(size=_SYMBOLS) * 0.5, jnp.float32
  )
  value_key, order_key = jax.random.split(key)
  values = _SYMBOLS + jax.random.randint(value_key, (_SYMBOLS,), 0, _SYMBOLS)
  count = -(-length // 2)
  order = jax.random.categorical(order_key, frequency, shape=(count,))
  earlier = jnp.tril(order[:, None] == order[None, :], -1).any(axis=-1)
  tokens = jnp.stack([order, values[order]], axis=-1).reshape(-1)
  known = jnp.stack([jnp.zeros_like(earlier), earlier], axis=-1).reshape(-1)
  return tokens[:length], known[:length]


def _register(name: str, vocab_size: int, generate) -> None:
  def load(part: str, data_dir: str | None = None) -> Language:
    del data_dir
    return Language(name, part, vocab_size, generate)

  register(name)(load)


_register("dyck", 2 * _KINDS, dyck)
_register("modular", _PRIME, modular)
_register("recall", 2 * _SYMBOLS, recall)
