"""Two layouts of the same parameters for one element-wise kernel.

The exported transformation keeps one array per parameter tensor, so that
every state leaf has its parameter's shape and sharding; `flt_lopt.transform`
does that. In `FlatLayout` all tensors of a model are one [blocks, 64] array
in which every tensor starts a new block: meta-training, where models are
small and many, and where the number of operations must not grow with the
number of tensors.

Main names: `TensorInfo`, `infos`, `FlatLayout`.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt32

from flt_lopt import roles

BLOCK = 64


class TensorInfo(NamedTuple):
  """The static facts of one parameter tensor.

  Attributes:
    shape: its shape.
    role: what it is, see `flt_lopt.roles`.
  """

  shape: tuple[int, ...]
  role: str = roles.INPUT_FIRST

  @property
  def size(self) -> int:
    return math.prod(self.shape)


def infos(tree: Any) -> tuple[TensorInfo, ...]:
  """Returns the facts of all leaves of a tree of parameters, in order.

  Args:
    tree: arrays or `jax.ShapeDtypeStruct`s.
  """
  return tuple(
    TensorInfo(tuple(leaf.shape), role)
    for leaf, role in zip(jax.tree.leaves(tree), roles.roles(tree), strict=True)
  )


class FlatLayout:
  """All tensors in one array of shape [blocks, 64], padded with zeros.

  Args:
    tensors: in order; `infos` makes them from a tree.
  """

  def __init__(self, tensors: Sequence[TensorInfo]):
    self.tensors = tuple(tensors)
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

  @property
  def places(self) -> UInt32[Array, "blocks lanes"]:
    """The number of each element in its tensor, in row-major order."""
    block = np.arange(len(self._owner)) - self._starts[self._owner]
    places = block[:, None] * BLOCK + np.arange(BLOCK)[None, :]
    return jnp.asarray(places.astype(np.uint32))

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
    """Broadcasts [tensors] arrays against the blocks of their tensors."""
    leaves, structure = jax.tree.flatten(scalars)
    dtypes = [leaf.dtype for leaf in leaves]
    rows = jnp.stack([leaf.astype(jnp.float32) for leaf in leaves], axis=1)
    rows = rows[self._owner]
    columns = [
      rows[:, i : i + 1].astype(dtype) for i, dtype in enumerate(dtypes)
    ]
    return jax.tree.unflatten(structure, columns)

  def collect(self, parts):
    """Returns the sums over each tensor of a tree of flat arrays."""
    leaves, structure = jax.tree.flatten(parts)
    rows = jnp.stack([jnp.sum(leaf, axis=-1) for leaf in leaves], axis=-1)
    # A product with 0 or 1 would carry one tensor's NaN to all of them.
    finite = jnp.isfinite(rows)
    totals = self._sum(jnp.where(finite, rows, 0.0))
    broken = self._sum(1.0 - finite) > 0
    totals = jnp.where(broken, jnp.nan, totals)
    return jax.tree.unflatten(
      structure, [totals[:, i] for i in range(len(leaves))]
    )

  def _sum(self, rows: Float[Array, "blocks sums"]):
    return jnp.matmul(
      self._membership, rows, precision=jax.lax.Precision.HIGHEST
    )
