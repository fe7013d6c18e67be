"""A user's own task, named on the command line as `module:Name`.

Main names: `load_user_task`, `user_family`.
"""

import importlib
import inspect
import os
import sys
import types
from typing import Any

from jaxtyping import PRNGKeyArray

from tasks import names
from tasks.base import (
  Batch,
  Params,
  Scalar,
  Task,
  TaskFamily,
  single_task_to_family,
)
from tasks.errors import TaskError
from tasks.hosted import hosted_family

_METHODS = ("init", "loss")
_OF_TASKS = {"init": ("key",), "loss": ("params", "key", "data")}
_OF_FAMILIES = {"sample": ("key",), "task_fn": ("cfg",)}
_ALL_METHODS = (
  *_METHODS,
  "init_with_state",
  "loss_with_state",
  "loss_and_aux",
  "loss_with_state_and_aux",
  "normalizer",
  "sample_batch",
)


def load_user_task(name: str) -> Task | TaskFamily:
  """Imports and makes a user's task or family.

  Args:
    name: `"module:Name"`, where `Name` is a class that can be made without
      arguments, a function that returns a task or a family, or an object.
      Modules in the current folder are found.

  Returns:
    A task or a family. What is found need not derive from either; a task
    with only some of the methods of `Task` gets the others.

  Raises:
    TaskError: If the name has another form, nothing is found, or what is
      found is neither task nor family, or takes other arguments.
  """
  module_name, colon, attribute = name.partition(":")
  if not (colon and module_name and attribute):
    raise TaskError(
      f"The task {name!r} must have the form module:Name, for instance"
      " my_module:MyTask for the class MyTask in my_module.py."
    )
  module = _import(module_name, name)
  if not hasattr(module, attribute):
    raise names.unknown_name(
      f"name in {module_name}", attribute, _possible(module)
    )
  found = getattr(module, attribute)
  is_factory = isinstance(found, type) or not _is_problem(found)
  made = found() if is_factory and callable(found) else found
  if not _is_problem(made):
    raise TaskError(
      f"The task {name!r} is a {type(made).__name__} without the methods"
      " init(key) and loss(params, key, data) of a task, or sample(key) and"
      " task_fn(cfg) of a family."
    )
  _check_arguments(name, made)
  if _has(made, _METHODS) and not _has(made, _ALL_METHODS):
    return CompletedTask(made)
  return made


def user_family(name: str) -> TaskFamily:
  """Imports a user's task or family and returns it as a family.

  What brings `datasets` is hosted: it draws from them by itself, see
  `tasks.hosted`.
  """
  found: Any = load_user_task(name)
  if not _has(found, ("sample", "task_fn")):
    found = single_task_to_family(found)
  return hosted_family(found)


class CompletedTask(Task):
  """The methods of `Task` for an object that has `init` and `loss`; final."""

  def __init__(self, task: Any):
    self.task = task
    self.datasets = getattr(task, "datasets", None)

  @property
  def name(self) -> str:
    return getattr(self.task, "name", type(self.task).__name__)

  def init(self, key: PRNGKeyArray) -> Params:
    return self.task.init(key)

  def loss(self, params: Params, key: PRNGKeyArray, data: Batch) -> Scalar:
    return self.task.loss(params, key, data)

  def __getattribute__(self, name: str) -> Any:
    # What the task defines itself comes first.
    own = object.__getattribute__(self, "__dict__").get("task")
    if own is not None and not name.startswith("__") and hasattr(own, name):
      return getattr(own, name)
    return object.__getattribute__(self, name)


def _check_arguments(name: str, made: Any) -> None:
  """Refuses methods that can't be called as they will be."""
  is_family = _has(made, ("sample", "task_fn"))
  for method, given in (_OF_FAMILIES if is_family else _OF_TASKS).items():
    # What is stateful is called by other names.
    if not is_family and _has_own(made, f"{method}_with_state"):
      continue
    try:
      inspect.signature(getattr(made, method)).bind(*given)
    except TypeError as error:
      raise TaskError(
        f"The task {name!r} has a method {method} that can't be called with"
        f" ({', '.join(given)}): {error}."
      ) from error
    except ValueError:  # It does not tell its arguments.
      continue


def _has_own(made: Any, method: str) -> bool:
  """Returns whether a method is there, and not that of `Task`."""
  found = getattr(type(made), method, getattr(made, method, None))
  return callable(found) and found is not getattr(Task, method)


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
    raise TaskError(
      f"The task {name!r} needs a module {module_name!r}, which is neither"
      f" installed nor in {folder}."
    ) from error


def _possible(module: types.ModuleType) -> list[str]:
  """Returns the names of a module that may stand for a task or a family."""
  return [
    name
    for name, found in vars(module).items()
    if not name.startswith("_")
    and (
      _is_problem(found)
      or (
        isinstance(found, types.FunctionType)
        and found.__module__ == module.__name__
      )
    )
  ]


def _is_problem(found: Any) -> bool:
  return _has(found, _METHODS) or _has(found, ("sample", "task_fn"))


def _has(found: Any, methods: tuple[str, ...]) -> bool:
  return all(callable(getattr(found, method, None)) for method in methods)
