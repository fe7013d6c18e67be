"""Notice that a file of the user's hides one of our packages.

`python -m meta_train` puts the current folder first on Python's path. A
`tasks.py` that lies there is then imported in place of our package `tasks`,
and everything fails far from the cause. This module looks before anything is
imported.

Main names: `check_packages`.
"""

import importlib.util
import pathlib

from meta_train.errors import UserError

_PACKAGES = ("tasks", "flt_lopt")


def check_packages() -> None:
  """Checks that our packages are found beside this one.

  Raises:
    UserError: another file or folder of that name comes first.
  """
  ours = pathlib.Path(__file__).resolve().parent.parent
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
      raise UserError(
        f"{found} hides the package {name} of flt_lopt, because python -m "
        "looks in the current folder first; start from another folder, or "
        "with python -P -m meta_train, or rename that file"
      )
