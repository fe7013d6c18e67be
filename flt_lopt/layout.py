"""Two layouts of the same parameters for one element-wise kernel.

`LeafLayout` keeps one array per parameter tensor, so that every state leaf
has its parameter's shape and sharding: the exported transformation. In
`FlatLayout` all tensors of a model are one [blocks, 64] array in which every
tensor starts a new block: meta-training, where models are small and many,
and where the number of operations must not grow with the number of tensors.

Both offer the kernel the same three things: the list of arrays to work on
(`parts`), scalars of each tensor broadcast against them (`expand`), and sums
over each tensor (`collect`).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

BLOCK = 64


class TensorInfo(NamedTuple):
  """The static facts of one parameter tensor."""

  shape: tuple[int, ...]

  @property
  def size(self) -> int:
    return math.prod(self.shape)


class LeafLayout:
  """One part per tensor, in the order of the leaves."""

  def __init__(self, shapes: Sequence[tuple[int, ...]]):
    self.tensors = tuple(TensorInfo(tuple(shape)) for shape in shapes)

  def expand(self, scalars):
    return [
      jax.tree.map(lambda x, i=i: x[i], scalars)
      for i in range(len(self.tensors))
    ]

  def collect(self, sums):
    structure = jax.tree.structure(sums[0])
    rows = [jnp.stack(jax.tree.leaves(_sum_rows(part))) for part in sums]
    totals = jnp.stack(
      [jnp.sum(x, axis=tuple(range(1, x.ndim))) for x in rows], axis=1
    )
    return jax.tree.unflatten(structure, list(totals))


class FlatLayout:
  """All tensors in one array of shape [blocks, 64], padded with zeros."""

  def __init__(self, shapes: Sequence[tuple[int, ...]]):
    self.tensors = tuple(TensorInfo(tuple(shape)) for shape in shapes)
    counts = [-(-tensor.size // BLOCK) for tensor in self.tensors]
    self._owner = np.repeat(np.arange(len(counts)), counts)
    self._starts = np.concatenate([[0], np.cumsum(counts)])
    self.shape = (len(self._owner), BLOCK)
    self._membership = np.float32(
      self._owner[None, :] == np.arange(len(counts))[:, None]
    )

  @property
  def mask(self) -> Float[Array, "blocks lanes"]:
    """1 at the places of parameters and 0 at the padding."""
    return self.flatten([jnp.ones(t.shape, jnp.float32) for t in self.tensors])

  def _sum(self, rows: Float[Array, "blocks sums"]):
    return jnp.matmul(
      self._membership, rows, precision=jax.lax.Precision.HIGHEST
    )

  def flatten(self, leaves) -> Float[Array, "blocks lanes"]:
    """Packs the tensors, in order, into one array."""
    rows = []
    for tensor, leaf in zip(self.tensors, leaves, strict=True):
      padding = -tensor.size % BLOCK
      rows.append(jnp.ravel(leaf))
      if padding:
        rows.append(jnp.zeros(padding, leaf.dtype))
    return jnp.concatenate(rows).reshape(self.shape)

  def unflatten(self, flat: Float[Array, "blocks lanes"]) -> list[Array]:
    """Returns the tensors in order."""
    vector = flat.reshape(-1)
    leaves = []
    for start, tensor in zip(self._starts[:-1], self.tensors, strict=True):
      part = vector[start * BLOCK : start * BLOCK + tensor.size]
      leaves.append(part.reshape(tensor.shape))
    return leaves

  def expand(self, scalars):
    leaves, structure = jax.tree.flatten(scalars)
    dtypes = [leaf.dtype for leaf in leaves]
    rows = jnp.stack([leaf.astype(jnp.float32) for leaf in leaves], axis=1)
    rows = rows[self._owner]
    columns = [
      rows[:, i : i + 1].astype(dtype) for i, dtype in enumerate(dtypes)
    ]
    return [jax.tree.unflatten(structure, columns)]

  def collect(self, sums):
    (part,) = sums
    leaves, structure = jax.tree.flatten(_sum_rows(part))
    rows = jnp.stack(leaves, axis=-1)
    # A product with 0 or 1 would carry one tensor's NaN to all of them.
    finite = jnp.isfinite(rows)
    totals = self._sum(jnp.where(finite, rows, 0.0))
    broken = self._sum(1.0 - finite) > 0
    totals = jnp.where(broken, jnp.nan, totals)
    return jax.tree.unflatten(
      structure, [totals[:, i] for i in range(len(leaves))]
    )


def _sum_rows(tree):
  """Sums arrays of one shape over their last axis, all in one pass.

  As separate sums, XLA would compute what they have in common again for
  each of them.
  """
  leaves, structure = jax.tree.flatten(tree)
  if not leaves[0].ndim:
    return tree
  return jax.tree.unflatten(structure, _sum_last(*leaves))


@jax.custom_jvp
def _sum_last(*arrays):
  zeros = tuple(jnp.zeros([], x.dtype) for x in arrays)
  return jax.lax.reduce(
    arrays,
    zeros,
    lambda a, b: tuple(x + y for x, y in zip(a, b, strict=True)),
    (arrays[0].ndim - 1,),
  )


@_sum_last.defjvp
def _sum_last_jvp(primals, tangents):
  # Linear, and written so that it can be transposed.
  return _sum_last(*primals), tuple(jnp.sum(t, axis=-1) for t in tangents)
