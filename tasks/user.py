"""A user's own task, named on the command line as `module:Name`.

Main names: `load_user_task`, `user_family`.
"""

import importlib
import os
import sys
from typing import Any

from tasks import names
from tasks.base import Task, TaskFamily, single_task_to_family

_METHODS = ("init", "loss")


def load_user_task(name: str) -> Task | TaskFamily:
  """Imports and makes a user's task or family.

  Args:
    name: `"module:Name"`, where `Name` is a class that can be made without
      arguments, a function that returns a task or a family, or an object.
      Modules in the current folder are found.

  Returns:
    An object with the methods of `Task` or of `TaskFamily`; it need not
    derive from either.

  Raises:
    ValueError: If the name has another form, nothing is found, or what is
      found is neither task nor family.
  """
  module_name, colon, attribute = name.partition(":")
  if not (colon and module_name and attribute):
    raise ValueError(
      f"The task {name!r} must have the form module:Name, for instance"
      " my_module:MyTask for the class MyTask in my_module.py."
    )
  module = _import(module_name, name)
  if not hasattr(module, attribute):
    public = [n for n in vars(module) if not n.startswith("_")]
    raise names.unknown_name(f"name in {module_name}", attribute, public)
  found = getattr(module, attribute)
  is_factory = isinstance(found, type) or not _is_problem(found)
  made = found() if is_factory and callable(found) else found
  if not _is_problem(made):
    raise ValueError(
      f"The task {name!r} is a {type(made).__name__} without the methods"
      " init(key) and loss(params, key, data) of a task, or sample(key) and"
      " task_fn(cfg) of a family."
    )
  return made


def user_family(name: str) -> TaskFamily:
  """Imports a user's task or family and returns it as a family."""
  found: Any = load_user_task(name)
  return found if _has(found, ("sample", "task_fn")) else _to_family(found)


def _to_family(task: Any) -> TaskFamily:
  return single_task_to_family(task, getattr(task, "name", None))


def _import(module_name: str, name: str) -> Any:
  folder = os.getcwd()
  if folder not in sys.path:
    sys.path.insert(0, folder)
  try:
    return importlib.import_module(module_name)
  except ModuleNotFoundError as error:
    if error.name != module_name.partition(".")[0] and (
      error.name != module_name
    ):
      raise  # The module is there, and imports another that is not.
    raise ValueError(
      f"The task {name!r} needs a module {module_name!r}, which is neither"
      f" installed nor in {folder}."
    ) from error


def _is_problem(found: Any) -> bool:
  return _has(found, _METHODS) or _has(found, ("sample", "task_fn"))


def _has(found: Any, methods: tuple[str, ...]) -> bool:
  return all(callable(getattr(found, method, None)) for method in methods)
