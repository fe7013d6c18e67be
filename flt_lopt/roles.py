"""What a tensor is, as far as its name in the tree of parameters tells.

Shapes don't tell which axis of a matrix is its input, nor a matrix from a
table whose rows are looked up one at a time, or from a stack of biases. Names
often do. The first line that fits counts:

    name                                                          role
    `scale`, `offset`, `gamma`, `beta`; with a word `bias`; `b`   ENTRIES
      beside `w`
    with a word `emb`, `wte`, `wpe`, or one that begins with      ENTRIES
      `embed` or `position`
    `weight` in a part that is called so, without a `bias`        ENTRIES
      beside it, as in Equinox's embeddings
    `kernel` of `query`, `key` or `value`, in a part that has     TO_HEADS
      `out` too, as in Flax's attention
    `kernel` of that `out`                                        FROM_HEADS
    `weight`, `weight_...`, as in Equinox and PyTorch             OUTPUT_FIRST
    any other, as in Flax and Haiku                               INPUT_FIRST

The name is that of the innermost dict entry or attribute; Flax's `.value` is
none. A tensor without a name, as in a tuple, is INPUT_FIRST. Where names tell
the wrong thing, `flt` takes roles as an argument.

Main names: `ENTRIES`, `INPUT_FIRST`, `OUTPUT_FIRST`, `TO_HEADS`, `FROM_HEADS`,
`ROLES`, `named`, `roles`.
"""

import collections
import re
from collections.abc import Mapping
from typing import Any

import jax

#: Each entry moves for itself: a table, of whose rows a step sees few, a bias.
ENTRIES = "entries"
#: (..., inputs, outputs).
INPUT_FIRST = "input first"
#: (..., outputs, inputs).
OUTPUT_FIRST = "output first"
#: (..., inputs, heads, width of a head).
TO_HEADS = "to heads"
#: (..., heads, width of a head, outputs).
FROM_HEADS = "from heads"
ROLES = (ENTRIES, INPUT_FIRST, OUTPUT_FIRST, TO_HEADS, FROM_HEADS)

_VECTOR = re.compile("(^|_)bias(es)?($|_)|^(scale|offset|gamma|beta)$")
_TABLE = re.compile("(^|[^a-z])(embed|position|(emb|wte|wpe)($|[^a-z]))")
_HEADS = ("query", "key", "value")
#: Attributes of wrappers, which name nothing.
_WRAPPERS = ("value", "raw_value")
_Path = tuple[Any, ...]


def _name(key: Any) -> str:
  """Returns the name of a jax key; empty for a number."""
  name = getattr(key, "key", getattr(key, "name", None))
  if not isinstance(name, str):
    return ""
  return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _innermost(path: _Path) -> _Path:
  """Returns the path without what names nothing at its end."""
  while path and not _name(path[-1]):
    path = path[:-1]
  return path


def _without_wrappers(path: _Path) -> _Path:
  found = path = _innermost(path)
  while found and _name(found[-1]) in _WRAPPERS:
    found = _innermost(found[:-1])
  return found or path


def _role(path: _Path, inside: Mapping[_Path, set[str]]) -> str:
  """Returns the role of a leaf.

  Args:
    path: of jax keys, to its name.
    inside: the names directly within each part of the tree.
  """
  if not path:
    return INPUT_FIRST
  part = _innermost(path[:-1])
  name, owner = _name(path[-1]), _name(part[-1]) if part else ""
  beside = inside[path[:-1]]
  if _VECTOR.search(name) or (name == "b" and "w" in beside):
    return ENTRIES
  if _TABLE.search(name):
    return ENTRIES
  if name == "weight" and _TABLE.search(owner) and "bias" not in beside:
    return ENTRIES
  if name == "kernel" and inside[part[:-1]].issuperset((*_HEADS, "out")):
    if owner in _HEADS:
      return TO_HEADS
    if owner == "out":
      return FROM_HEADS
  is_turned = name == "weight" or name.startswith("weight_")
  return OUTPUT_FIRST if is_turned else INPUT_FIRST


def roles(tree: Any) -> list[str]:
  """Returns the roles of all leaves of a tree, in order, as names tell them.

  Args:
    tree: of parameters.
  """
  paths = [
    _without_wrappers(path) for path, _ in jax.tree.leaves_with_path(tree)
  ]
  inside: dict[_Path, set[str]] = collections.defaultdict(set)
  for path in paths:
    for end in range(len(path)):
      inside[path[:end]].add(_name(path[end]))
  return [_role(path, inside) for path in paths]


def named(tree: Any) -> Any:
  """Returns the roles as a tree like that of the parameters, to be changed.

  Args:
    tree: of parameters.
  """
  return jax.tree.unflatten(jax.tree.structure(tree), roles(tree))
