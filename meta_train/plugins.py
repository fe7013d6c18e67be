"""Objects of the user's own, named on the command line as `module:Name`.

Main names: `load_object`.
"""

import importlib
import os
import sys
from typing import Any

from meta_train.errors import UserError, closest


def load_object(spec: str, *, flag: str) -> Any:
  """Imports a module and returns one of its names.

  Modules are also looked for in the current folder, after everything else.

  Args:
    spec: `module:Name`; the module may be dotted.
    flag: the flag the text came from, for the error.

  Raises:
    UserError: the text is malformed, or the module or the name is missing.
      An error inside the user's module is the user's to see in full, and
      passes through.
  """
  module_name, colon, name = spec.partition(":")
  if not (colon and name and all(module_name.split("."))):
    raise UserError(
      f"--{flag}={spec} must be written module:Name, such as "
      "my_tasks:MyTask for the class MyTask in my_tasks.py"
    )
  if os.getcwd() not in sys.path:
    sys.path.append(os.getcwd())
  try:
    module = importlib.import_module(module_name)
  except ModuleNotFoundError as error:
    if error.name not in (module_name, module_name.split(".")[0]):
      raise
    raise UserError(
      f"--{flag}={spec}: there is no module {error.name} here or among the "
      "installed ones; start in the folder it lies in"
    ) from None
  if not hasattr(module, name):
    raise UserError(
      f"--{flag}={spec}: {module.__file__} has no {name}"
      f"{closest(name, vars(module))}"
    )
  return getattr(module, name)
