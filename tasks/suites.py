"""Named sets of tasks: what to meta-train on, to choose by, and to report.

A suite's training families, validation tasks and held-out tasks share
neither examples nor models: this is checked whenever a suite is built, by
data source and part, and by architecture. What an optimizer is said to do
on held-out tasks is therefore about data and models that it never saw.

Main names: `get_suite`, `list_suites`, `register_suite`, `Suite`. The suites
themselves are in `tasks.suite_members`.
"""

import importlib
import itertools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from tasks import augment as augment_lib
from tasks import names
from tasks.base import Task, TaskFamily

Problems = Iterable[Any]  # Tasks or families.


class Suite(NamedTuple):
  """A named set of tasks.

  Attributes:
    name: Name of the suite.
    train: Families to meta-train on; none in suites for evaluation.
    validation: Tasks for choosing between checkpoints.
    held_out: Tasks for reporting.
  """

  name: str
  train: tuple[TaskFamily, ...]
  validation: tuple[Task, ...]
  held_out: tuple[Task, ...]


Builder = Callable[[str | None], Suite]
_SUITES: dict[str, Builder] = {}


def register_suite(name: str) -> Callable[[Builder], Builder]:
  """Returns a decorator that registers a function that builds a suite.

  The function takes the folder of the user's data files, or `None`.
  """

  def decorate(build: Builder) -> Builder:
    if name in _SUITES:
      raise ValueError(f"The suite {name!r} is registered twice.")
    _SUITES[name] = build
    return build

  return decorate


def _import_members() -> None:
  importlib.import_module("tasks.suite_members")


def list_suites() -> tuple[str, ...]:
  """Returns the names of all suites."""
  _import_members()
  return tuple(sorted(_SUITES))


def get_suite(
  name: str,
  *,
  data_dir: str | None = None,
  augment: Iterable[str | augment_lib.Augmentation] = (),
) -> Suite:
  """Builds a suite and checks that its three sets are disjoint.

  Args:
    name: Name of the suite, see `list_suites`.
    data_dir: Folder of files, for suites that use them where there are some.
    augment: Augmentations of the training families, see `tasks.augment`.

  Returns:
    The suite. No data is read before its tasks are used.

  Raises:
    ValueError: For an unknown name, or sets that are not disjoint.
  """
  _import_members()
  if name not in _SUITES:
    raise names.unknown_name("suite", name, _SUITES)
  suite = _SUITES[name](data_dir)
  check_disjoint(suite)
  train = (augment_lib.augment(family, *augment) for family in suite.train)
  return suite._replace(train=tuple(train))


def check_disjoint(suite: Suite) -> None:
  """Raises a `ValueError` if two sets share data or an architecture."""
  sets = (
    ("train", suite.train),
    ("validation", suite.validation),
    ("held_out", suite.held_out),
  )
  for (name_a, a), (name_b, b) in itertools.combinations(sets, 2):
    for what, collect in (("data", _data), ("architectures", _models)):
      common = collect(a) & collect(b)
      if common:
        raise ValueError(
          f"Suite {suite.name!r}: {name_a} and {name_b} share the {what}"
          f" {sorted(common)}; use another part of the data or other sizes."
        )


def _data(problems: Problems) -> set[tuple[str, str]]:
  return {pair for problem in problems for pair in problem.data_ids}


def _models(problems: Problems) -> set[str]:
  return {problem.architecture for problem in problems}
