"""Inner problems by name.

A *problem* is a family class with its options. Each file of
`tasks.families` registers its own when it is first imported, which happens
at the first look-up; the same problem can then be had on any part of the
data, as a family or as one fixed task. To register is to be tested.

Main names: `register`, `family`, `task`, `list_problems`.
"""

import functools
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple

from tasks import names
from tasks.base import Task, TaskFamily


class Problem(NamedTuple):
  """An entry of the registry.

  Attributes:
    name: Name of the problem.
    make: Makes its family from the options.
    options: Options of the family.
  """

  name: str
  make: Callable[..., TaskFamily]
  options: dict[str, Any]


_PROBLEMS: dict[str, Problem] = {}


def register(
  name: str, make: Callable[..., TaskFamily], **options: Any
) -> None:
  """Registers a problem.

  Args:
    name: Name of the problem, unique.
    make: Family class, or any function that takes `name`, `part` and
      `options` by keyword and returns a family.
    **options: Options of the family.
  """
  if name in _PROBLEMS:
    raise ValueError(f"The problem {name!r} is registered twice.")
  _PROBLEMS[name] = Problem(name, make, options)


@functools.cache
def _import_all() -> None:
  package = importlib.import_module("tasks.families")
  for module in pkgutil.iter_modules(package.__path__):
    importlib.import_module(f"tasks.families.{module.name}")


def problem(name: str) -> Problem:
  """Returns a registered problem; unknown names list the valid ones.

  Names joined by `+` are a mixture: the problems are trained at once, under
  a weighted sum of their losses.
  """
  _import_all()
  if "+" in name:
    return Problem(name, functools.partial(_mixture, name.split("+")), {})
  if name not in _PROBLEMS:
    raise names.unknown_name("problem", name, _PROBLEMS)
  return _PROBLEMS[name]


def _mixture(members: list[str], name: str, part: str) -> TaskFamily:
  from tasks.augment.mixture import MixtureFamily  # It knows families.

  return MixtureFamily([family(member, part) for member in members], name)


def list_problems() -> tuple[str, ...]:
  """Returns the names of all registered problems."""
  _import_all()
  return tuple(sorted(_PROBLEMS))


def family(name: str, part: str = "meta_train", **overrides: Any) -> TaskFamily:
  """Makes the family of a registered problem.

  Args:
    name: Name of the problem, see `list_problems`.
    part: Part of the data, see `tasks.data.PARTS`.
    **overrides: Options that replace the registered ones.

  Returns:
    The family. No data is read before it is used.
  """
  entry = problem(name)
  return entry.make(name=name, part=part, **{**entry.options, **overrides})


def task(
  name: str, part: str = "held_out", *, seed: int = 0, **overrides: Any
) -> Task:
  """Makes one task of a registered problem.

  Args:
    name: Name of the problem, see `list_problems`.
    part: Part of the data, see `tasks.data.PARTS`.
    seed: Seed of the config, which tells members of the family apart.
    **overrides: Options that replace the registered ones.

  Returns:
    The task. No data is read before it is used.
  """
  from tasks.fixed import FixedTask  # Families import this module.

  return FixedTask(family(name, part, **overrides), seed=seed)
