"""Parametrized tests of which most cases are slow.

Main names: `few_of`.
"""

from collections.abc import Iterable

import pytest


def few_of(argument: str, names: Iterable[str], *fast: str):
  """Parametrizes by all names and marks `slow` all but the fast ones.

  Args:
    argument: of the test.
    names: its values.
    fast: those that are always run.
  """
  return pytest.mark.parametrize(
    argument,
    [
      name if name in fast else pytest.param(name, marks=pytest.mark.slow)
      for name in names
    ],
  )
