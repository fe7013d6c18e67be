"""What a tensor is, as far as its name in the tree of parameters tells.

Shapes don't tell which axis of a matrix is its input, nor a matrix from a
table whose rows are looked up one at a time. Names often do:

    last name                                     role
    a word of it begins with `embed`, `position`  TABLE: its rows are looked up
    it is `weight`, or begins with `weight_`      OUTPUT_FIRST, as in Equinox
    any other                                     INPUT_FIRST, as in Flax

The last name is that of the innermost dict entry or attribute; Flax's
`.value` is none. A tensor without a name, as in a tuple, is INPUT_FIRST.

Main names: `TABLE`, `OUTPUT_FIRST`, `INPUT_FIRST`, `role_of`, `roles`.
"""

import re
from typing import Any

import jax

TABLE = "table"
OUTPUT_FIRST = "output first"
INPUT_FIRST = "input first"
_TABLE = re.compile("(^|[^a-z])(embed|position)")
#: Attributes of wrappers, which name nothing.
_WRAPPERS = ("value", "raw_value")


def role_of(path: tuple[Any, ...]) -> str:
  """Returns the role of the leaf at a path of jax keys.

  Args:
    path: as `jax.tree.leaves_with_path` gives it.
  """
  names = [getattr(key, "key", getattr(key, "name", None)) for key in path]
  texts = [name for name in names if isinstance(name, str)]
  while texts and texts[-1] in _WRAPPERS:
    texts.pop()
  last = texts[-1].lower() if texts else ""
  if _TABLE.search(last):
    return TABLE
  is_turned = last == "weight" or last.startswith("weight_")
  return OUTPUT_FIRST if is_turned else INPUT_FIRST


def roles(tree: Any) -> list[str]:
  """Returns the roles of all leaves of a tree, in order.

  Args:
    tree: of parameters.
  """
  return [role_of(path) for path, _ in jax.tree.leaves_with_path(tree)]
