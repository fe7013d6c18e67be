"""Arrays between the processes of a run.

In every process the tasks of a run, and the rows that its devices reduce them
to, lie along the first axis; of the whole run they lie there by rank. All
processes have equally many, so that bytes alone say what is what.

Main names: `all_gather_rows`, `broadcast`, `collect`, `hand_out`.
"""

from collections.abc import Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from flt_lopt import _named_arrays
from meta_train.engine.processes import Group


def all_gather_rows(group: Group, rows: chex.ArrayTree) -> chex.ArrayTree:
  """Returns the rows of all processes, along the first axis, on all of them.

  Args:
    group: the processes.
    rows: NumPy arrays, of the same shapes in every process.
  """
  if group.size == 1:
    return rows
  leaves, structure = jax.tree.flatten(rows)
  parts = group.all_gather(_pack(leaves))
  return jax.tree.unflatten(structure, _join(parts, leaves))


def broadcast(
  group: Group, tree: chex.ArrayTree, template: chex.ArrayTree
) -> chex.ArrayTree:
  """Returns process 0's arrays on every process.

  Args:
    group: the processes.
    tree: arrays, on process 0.
    template: shapes and dtypes of them, on every process.
  """
  if group.size == 1:
    return tree
  named = _named_arrays.flatten(jax.tree.map(_nothing, template))
  leaves = list(named.arrays.values())
  parts: Sequence[bytes] = ()
  if group.rank == 0:
    arrays = _named_arrays.flatten(tree).arrays.values()
    parts = [_pack(list(arrays))] * group.size
  data, start, received = group.scatter(parts), 0, []
  for leaf in leaves:
    flat = np.frombuffer(data, leaf.dtype, leaf.size, start)
    received.append(flat.reshape(leaf.shape))
    start += leaf.nbytes
  return _restore(template, named, received)


def collect(
  group: Group, tasks: chex.ArrayTree, template: chex.ArrayTree
) -> chex.ArrayTree:
  """Returns the states of all tasks on process 0, and this one's elsewhere.

  Args:
    group: the processes.
    tasks: the states of this process's tasks.
    template: shapes and dtypes of those of all tasks.
  """
  if group.size == 1:
    return tasks
  named = _named_arrays.flatten(tasks)
  leaves = list(named.arrays.values())
  parts = group.gather(_pack(leaves))
  if group.rank:
    return tasks
  return _restore(template, named, _join(parts, leaves))


def hand_out(
  group: Group, tasks: chex.ArrayTree, template: chex.ArrayTree
) -> chex.ArrayTree:
  """Returns the states of this process's tasks.

  Args:
    group: the processes.
    tasks: on process 0 the states of all tasks.
    template: shapes and dtypes of those, on every process.
  """
  if group.size == 1:
    return tasks
  parts: Sequence[bytes] = ()
  if group.rank == 0:
    arrays = _named_arrays.flatten(tasks).arrays.values()
    shares = [np.split(array, group.size) for array in arrays]
    parts = [_pack([share[n] for share in shares]) for n in range(group.size)]
  data = group.scatter(parts)
  ours = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      (x.shape[0] // group.size, *x.shape[1:]), x.dtype
    ),
    template,
  )
  named = _named_arrays.flatten(jax.tree.map(_nothing, ours))
  return _restore(ours, named, _join([data], list(named.arrays.values())))


def _nothing(like) -> jax.Array | np.ndarray:
  """Returns an array of this shape and dtype, which may be that of keys."""
  if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
    return jax.random.split(jax.random.key(0), like.shape)
  return np.zeros(like.shape, like.dtype)


def _restore(template, named, leaves) -> chex.ArrayTree:
  arrays = dict(zip(named.arrays, leaves, strict=True))
  return _named_arrays.unflatten(template, named._replace(arrays=arrays))


def _pack(leaves: Sequence[np.ndarray]) -> bytes:
  return b"".join(np.ascontiguousarray(x).tobytes() for x in leaves)


def _join(
  parts: Sequence[bytes], leaves: Sequence[np.ndarray]
) -> list[np.ndarray]:
  """Unpacks parts that are packed leaves of these shapes, and joins them."""
  joined, start = [], 0
  for leaf in leaves:
    pieces = [
      np.frombuffer(part, leaf.dtype, leaf.size, start) for part in parts
    ]
    shape = (len(parts) * leaf.shape[0], *leaf.shape[1:])
    joined.append(np.concatenate(pieces).reshape(shape))
    start += leaf.nbytes
  return joined
