"""Registries: names for interchangeable parts, with errors that help.

A registry maps a short name to a frozen dataclass. `make` builds one from
keyword options; an unknown name or option is answered with the valid ones and
the closest match.

Names: `Registry`.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def suggest(name: str, valid: Iterable[str]) -> str:
  """Return the sentence `Did you mean ...?` (or nothing) for a typo."""
  close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
  return f" Did you mean {close[0]!r}?" if close else ""


def check_choice(what: str, value: Any, choices: Iterable[Any]) -> None:
  """Raise a `ValueError` that lists `choices` unless `value` is one."""
  choices = list(choices)
  if value in choices:
    return
  names = ", ".join(str(choice) for choice in choices)
  hint = suggest(str(value), [str(choice) for choice in choices])
  raise ValueError(f"{what}={value!r} is unknown; choose from: {names}.{hint}")


class Registry(Generic[T]):
  """A named collection of frozen dataclasses of one kind.

  Args:
    kind: what the members are, in words for error messages.
  """

  def __init__(self, kind: str):
    self.kind = kind
    self._members: dict[str, type[T]] = {}

  def register(self, name: str) -> Callable[[type[T]], type[T]]:
    """Return a class decorator that files the class under `name`."""

    def add(cls: type[T]) -> type[T]:
      if name in self._members:
        raise ValueError(f"{self.kind} {name!r} is registered twice.")
      self._members[name] = cls
      cls.name = name  # type: ignore[attr-defined]
      return cls

    return add

  def names(self) -> tuple[str, ...]:
    """Return all registered names, sorted."""
    return tuple(sorted(self._members))

  def get(self, name: str) -> type[T]:
    """Return the class filed under `name`.

    Raises:
      ValueError: the name is unknown; the message lists the valid ones.
    """
    if name not in self._members:
      raise ValueError(
        f"Unknown {self.kind} {name!r}. Valid names: "
        f"{', '.join(self.names())}.{suggest(name, self._members)}"
      )
    return self._members[name]

  def make(self, name: str, **options: Any) -> T:
    """Build the member `name` with `options`.

    Raises:
      ValueError: unknown name, or an option that this member lacks.
    """
    cls = self.get(name)
    valid = [f.name for f in dataclasses.fields(cls)]  # type: ignore
    for option in options:
      if option not in valid:
        raise ValueError(
          f"{self.kind} {name!r} has no option {option!r}. Its "
          f"options: {', '.join(valid)}.{suggest(option, valid)}"
        )
    return cls(**options)
