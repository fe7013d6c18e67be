"""A pytree as a flat dictionary of named NumPy arrays, and back.

A file needs names; a pytree has paths. The path of a leaf, joined by "/", is
its name, and going back takes a template with the wanted structure, so that a
file never decides what is built. Typed PRNG keys become their raw data, with
the name of their implementation kept beside them.

Main names: `flatten`, `unflatten`, `TemplateError`.
"""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np


class TemplateError(ValueError):
  """Arrays whose names, shapes or dtypes are not those of the template."""


class NamedArrays(NamedTuple):
  """A flattened pytree.

  Attributes:
    arrays: NumPy arrays by name; of a PRNG key its raw data.
    key_impls: for the names that are PRNG keys, their implementation.
  """

  arrays: dict[str, np.ndarray]
  key_impls: dict[str, str]


def flatten(tree: chex.ArrayTree) -> NamedArrays:
  """Return the leaves of a pytree by name, as NumPy arrays.

  Args:
    tree: arrays, typed PRNG keys, or Python numbers, nested in any way.

  Raises:
    ValueError: two leaves have the same name.
  """
  arrays: dict[str, np.ndarray] = {}
  key_impls = {}
  for name, leaf in _named_leaves(tree):
    if name in arrays:
      raise ValueError(f"two leaves of the tree are named {name!r}")
    if _is_key(leaf):
      key_impls[name] = str(jax.random.key_impl(leaf))
      leaf = jax.random.key_data(leaf)
    arrays[name] = np.asarray(leaf)
  return NamedArrays(arrays, key_impls)


def unflatten(template: chex.ArrayTree, named: NamedArrays) -> chex.ArrayTree:
  """Build a pytree like `template` from named arrays.

  Args:
    template: a pytree of arrays or `jax.ShapeDtypeStruct`s.
    named: what `flatten` returned for a pytree of the same structure.

  Returns:
    The pytree. Each leaf is what the template's leaf is: a NumPy array, a
    Python number, or else a JAX array (with the template's sharding).

  Raises:
    TemplateError: a name is missing or too many, or a shape or dtype
      differs. Nothing is converted silently.
  """
  leaves = _named_leaves(template)
  names = [name for name, _ in leaves]
  problems = _missing("lacks", set(names) - set(named.arrays))
  problems += _missing("has unknown", set(named.arrays) - set(names))
  if problems:
    raise TemplateError("; ".join(problems))
  values = [_restore(name, leaf, named) for name, leaf in leaves]
  return jax.tree.unflatten(jax.tree.structure(template), values)


def _named_leaves(tree: chex.ArrayTree) -> list[tuple[str, Any]]:
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  keystr = jax.tree_util.keystr
  return [(keystr(path, simple=True, separator="/"), x) for path, x in leaves]


def _missing(verb: str, names: set[str]) -> list[str]:
  if not names:
    return []
  shown = sorted(names)[:3]
  more = f" and {len(names) - 3} more" if len(names) > 3 else ""
  noun = "array" if len(names) == 1 else "arrays"
  return [f"it {verb} {noun} {', '.join(shown)}{more}"]


def _is_key(leaf: Any) -> bool:
  dtype = getattr(leaf, "dtype", None)
  return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _restore(name: str, leaf: Any, named: NamedArrays) -> Any:
  value: Any = named.arrays[name]
  if name in named.key_impls:
    value = _wrap_key(name, value, named.key_impls[name])
  if isinstance(leaf, bool | int | float | complex):
    leaf = np.asarray(leaf)
    _check(name, leaf, value)
    return value.item()
  _check(name, leaf, value)
  if isinstance(leaf, np.ndarray | np.generic):
    return np.array(value)
  # A copy: a later donation must not write into the file's bytes.
  value = value if _is_key(value) else jnp.array(value)
  sharding = getattr(leaf, "sharding", None)
  # An uncommitted array may move between devices; pinning it would not let
  # it meet arrays that live on several.
  if sharding is None or not getattr(leaf, "committed", True):
    return value
  return jax.device_put(value, sharding)


def _wrap_key(name: str, data: np.ndarray, impl: str) -> jax.Array:
  try:
    return jax.random.wrap_key_data(jnp.array(data), impl=impl)
  except (TypeError, ValueError, KeyError) as error:
    raise TemplateError(f"its array {name} is no PRNG key") from error


def _check(name: str, leaf: Any, value: Any) -> None:
  if tuple(value.shape) != tuple(leaf.shape):
    raise TemplateError(
      f"its array {name} has shape {tuple(value.shape)}, expected "
      f"{tuple(leaf.shape)}"
    )
  if value.dtype != leaf.dtype:
    raise TemplateError(
      f"its array {name} has dtype {value.dtype}, expected {leaf.dtype}"
    )
