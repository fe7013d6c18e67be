"""What a tensor is, as far as its name in the tree of parameters tells.

Shapes don't tell which axis of a matrix is its input, nor a matrix from a
table whose rows are looked up one at a time, or from a stack of biases. Names
often do. The first line that fits counts:

    name                                                          role
    `scale`, `offset`, `gamma`, `beta`; with a last word `bias`,  ENTRIES
      as in `bias_ih`; `b` beside `w` of more axes
    with a word `emb`, `wte`, `wpe`, or one that begins with      ENTRIES
      `embed` or `position`
    `weight` in a part that is called so, and not a `patch`, a    ENTRIES
      `proj`ection or the like, without a `bias` beside it, as
      in Equinox's embeddings
    `kernel` of `query`, `key` or `value` (..., inputs, heads,    TO_HEADS
      width), beside an `out` (..., heads, width, outputs), as
      in Flax's attention
    `kernel` of that `out`                                        FROM_HEADS
    `weight`, `weight_...`, as in Equinox and PyTorch             OUTPUT_FIRST
    any other, as in Flax and Haiku                               INPUT_FIRST

The name is that of the innermost dict entry or attribute; Flax's `.value` is
none. A tensor without a name, as in a tuple, is INPUT_FIRST. What stands beside
a tensor counts, so where a part of the parameters is left out, roles may be
others. Where names tell the wrong thing, `flt` takes roles as an argument.

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

_VECTOR = re.compile(
  "(^|_)bias(es)?(_(ih|hh|n|k|v))?(_l[0-9]+)?$|^(scale|offset|gamma|beta)$"
)
_TABLE = re.compile("(^|[^a-z])(embed|position|(emb|wte|wpe)($|[^a-z]))")
_LAYER = re.compile("patch|proj|mlp|linear|dense|conv")
_HEADS = ("query", "key", "value")
#: Attributes of wrappers, which name nothing.
_WRAPPERS = ("value", "raw_value")
#: Names from the root to a leaf; what has none is in brackets.
_Path = tuple[str, ...]
_Shapes = Mapping[_Path, tuple[int, ...]]


def _text(key: Any) -> str:
  """Returns the name of a jax key, in small letters and underscores."""
  name = getattr(key, "key", getattr(key, "name", None))
  if not isinstance(name, str):
    return f"[{key}]"
  return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _innermost(path: _Path) -> _Path:
  """Returns the path without what has no name at its end."""
  while path and path[-1].startswith("["):
    path = path[:-1]
  return path


def _without_wrappers(path: _Path) -> _Path:
  found = path = _innermost(path)
  while found and found[-1] in _WRAPPERS:
    found = _innermost(found[:-1])
  return found or path


def _has_heads(attention: _Path, shapes: _Shapes) -> bool:
  """Returns whether a part has kernels to heads, and one from as many."""
  out = shapes.get((*attention, "out", "kernel"), ())
  to_heads = [shapes.get((*attention, x, "kernel"), ()) for x in _HEADS]
  return all(len(x) > 2 and x[-2:] == out[-3:-1] for x in to_heads)


def _role(path: _Path, shapes: _Shapes, inside: Mapping[_Path, set[str]]):
  """Returns the role of a leaf.

  Args:
    path: to its name.
    shapes: of all leaves.
    inside: the names directly within each part of the tree.
  """
  if not path:
    return INPUT_FIRST
  part, name = path[:-1], path[-1]
  owner = "".join(_innermost(part)[-1:])
  axes = {x: len(shapes.get((*part, x), ())) for x in ("b", "w")}
  if _VECTOR.search(name) or (name == "b" and axes["b"] < axes["w"]):
    return ENTRIES
  if _TABLE.search(name):
    return ENTRIES
  is_table = _TABLE.search(owner) and not _LAYER.search(owner)
  if name == "weight" and is_table and "bias" not in inside[part]:
    return ENTRIES
  if name == "kernel" and _has_heads(part[:-1], shapes):
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
  paths, shapes = [], {}
  inside: dict[_Path, set[str]] = collections.defaultdict(set)
  for keys, leaf in jax.tree.leaves_with_path(tree):
    path = _without_wrappers(tuple(map(_text, keys)))
    paths.append(path)
    shapes[path] = tuple(getattr(leaf, "shape", ()))
    inside[path[:-1]].update(path[-1:])
  return [_role(path, shapes, inside) for path in paths]


def named(tree: Any, others: Mapping[str, str] | None = None) -> Any:
  """Returns the roles of all leaves as a tree like that of the parameters.

  Args:
    tree: of parameters.
    others: roles that count in place of those that names tell, by the name of
      the tensor, or of a part whose tensors all have it.

  Raises:
    ValueError: a name is in no path.
  """
  found, missing = roles(tree), dict(others or {})
  for i, (keys, _) in enumerate(jax.tree.leaves_with_path(tree)):
    for key in keys:
      name = str(getattr(key, "key", getattr(key, "name", "")))
      if others and name in others:
        found[i] = others[name]
        missing.pop(name, None)
  if missing:
    raise ValueError(
      f"no parameter, and no part of them, is called {', '.join(missing)}; "
      "names are those of dict entries and attributes."
    )
  return jax.tree.unflatten(jax.tree.structure(tree), found)
