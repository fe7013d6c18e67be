"""Groups of meta-parameters, by the path that their arrays have in theta.

`controller` is all of the controller, `controller/log_step` its head of that
name, and `controller/log_step/b` that head's bias: a name stands for the arrays
whose path begins with it.

Main names: `names`, `paths`, `contains`, `check`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax

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
