"""Notice that a file of the user's hides a package.

`python -m meta_train` puts the current folder first on Python's path. A
`tasks.py` that lies there is then imported in place of our package `tasks`,
and everything fails far from the cause; a `numpy.py` does the same to numpy.
This module looks before anything is imported.

Main names: `check_packages`.
"""

import importlib.util
import pathlib

from meta_train.errors import UserError

_PACKAGES = ("tasks", "flt_lopt")
_OTHERS = ("numpy", "jax", "optax", "haiku", "chex")


def check_packages() -> None:
  """Checks that our packages and those we stand on are not hidden.

  Raises:
    UserError: another file or folder has the name of one of ours and comes
      first, or a file has the name of one of theirs.
  """
  ours = pathlib.Path(__file__).resolve().parents[2]
  for name in _PACKAGES:
    spec = importlib.util.find_spec(name)  # Finds, and runs nothing.
    found = (
      pathlib.Path(spec.origin).resolve() if spec and spec.origin else None
    )
    if found is None:
      raise UserError(
        f"the package {name} is missing from {ours}; install flt-lopt again"
      )
    if found != ours / name / "__init__.py":
      raise _hidden(found, f"{name} of flt_lopt")
  for name in _OTHERS:
    spec = importlib.util.find_spec(name)
    # The real ones are folders, so a single file is something else. A folder
    # may be the real one's source tree.
    if spec and spec.origin and spec.submodule_search_locations is None:
      raise _hidden(pathlib.Path(spec.origin).resolve(), name)


def _hidden(found: pathlib.Path, what: str) -> UserError:
  return UserError(
    f"{found} hides the package {what}, because python -m looks in the current "
    "folder first; start from another folder, or with python -P -m "
    "meta_train, or rename that file"
  )
