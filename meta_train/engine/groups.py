"""Groups of meta-parameters, by the path that their arrays have in theta.

`controller` is all of the controller, `controller/log_step` its head of that
name, and `controller/log_step/b` that head's bias: a name stands for the arrays
whose path begins with it.

Main names: `names`, `paths`, `contains`, `spread`, `check`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from meta_train.errors import UserError, closest


def paths(theta: Mapping[str, Any]) -> tuple[str, ...]:
  """Returns the path of every array, in the order of flat theta."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(theta)
  return tuple(
    jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves
  )


def names(theta: Mapping[str, Any]) -> tuple[str, ...]:
  """Returns all names that a group may have, the widest first."""
  found = {
    "/".join(words[:length])
    for words in (path.split("/") for path in paths(theta))
    for length in range(1, len(words) + 1)
  }
  return tuple(sorted(found, key=lambda name: (name.count("/"), name)))


def contains(group: str, path: str) -> bool:
  """Returns whether an array belongs to a group."""
  return path == group or path.startswith(f"{group}/")


def spread(
  theta: Mapping[str, Any], value_of: Callable[[str], float]
) -> Float[Array, "theta"]:
  """Returns flat theta with the value of its array for each meta-parameter.

  Args:
    theta: meta-parameters.
    value_of: maps the path of an array to its value.
  """
  leaves, structure = jax.tree.flatten(theta)
  values = [
    np.full(np.shape(leaf), value_of(path), np.float32)
    for path, leaf in zip(paths(theta), leaves, strict=True)
  ]
  return ravel_pytree(jax.tree.unflatten(structure, values))[0]


def check(flag: str, text: str, group: str, theta: Mapping[str, Any]) -> None:
  """Refuses a name that no group has.

  Args:
    flag: whose value names the group.
    text: that value.
    group: the name.
    theta: meta-parameters.

  Raises:
    UserError: no array's path begins with it.
  """
  known = names(theta)
  if group not in known:
    wide: Iterable[str] = (name for name in known if "/" not in name)
    raise UserError(
      f"--{flag}={text} names {group!r}, which theta does not have"
      f"{closest(group, known)} (there are: {', '.join(wide)}, and parts of "
      "them, such as controller/log_step)"
    )
