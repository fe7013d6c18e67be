"""Error text for a name that no registry knows.

Every registry of the package answers an unknown name in the same way: the
name, the closest known ones, and the whole list.
"""

import difflib
from collections.abc import Iterable

from tasks.errors import TaskError


def unknown_name(kind: str, name: str, known: Iterable[str]) -> TaskError:
  """Builds the error for an unknown `name` of some `kind`.

  Args:
    kind: What was looked up, for instance `"suite"`.
    name: The name that was not found.
    known: All valid names.

  Returns:
    A `TaskError` that lists the valid names and the closest match.
  """
  valid = sorted(known)
  close = difflib.get_close_matches(name, valid, n=1)
  hint = f" Did you mean {close[0]!r}?" if close else ""
  return TaskError(
    f"Unknown {kind} {name!r}.{hint} Valid names: {', '.join(valid)}."
  )
