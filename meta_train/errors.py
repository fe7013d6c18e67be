"""The one error that is the user's to solve.

Whatever a user can cause and mend (a flag, a file, a folder) is raised as a
`UserError` whose text is one clear line: the value, the rule, the remedy. The
command line prints that line and ends with exit code 2; any other exception is
ours and keeps its traceback.

Main names: `UserError`, `check_choice`, `closest`.
"""

import difflib
from collections.abc import Iterable


class UserError(Exception):
  """A mistake the user can mend; its text is one line that says how."""


def check_choice(flag: str, value: str, known: Iterable[str]) -> None:
  """Refuses a flag's value that is none of the known names.

  Args:
    flag: without its dashes.
    value: its value.
    known: what it may be.

  Raises:
    UserError: it is something else.
  """
  known = list(known)
  if value not in known:
    raise UserError(
      f"--{flag}={value} is unknown{closest(value, known)} (there are: "
      f"{', '.join(known)})"
    )


def closest(name: str, names: Iterable[str]) -> str:
  """Returns `; did you mean ...?` for the most similar name, or nothing."""
  matches = difflib.get_close_matches(name, list(names), n=1, cutoff=0.5)
  return f"; did you mean {matches[0]}?" if matches else ""
