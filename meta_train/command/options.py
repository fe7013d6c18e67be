"""A field of a settings class that is a flag of a program too.

A field carries its help text, its unit, its bounds and whether it may change
between the runs in one folder; `flags` makes the command line from it.

Main names: `option`, `check_bounds`.
"""

import dataclasses
import math
import operator
from collections.abc import Callable
from typing import Any

from meta_train.errors import UserError


def option(
  default: Any,
  text: str,
  *,
  unit: str = "",
  group: str = "",
  low: float | None = None,
  high: float | None = None,
  above: float | None = None,
  below: float | None = None,
  may_change: bool = False,
) -> Any:
  """Declares a field.

  Args:
    default: its default value, which also gives its type.
    text: what it means, for `--help`.
    unit: what one of it is: inner steps, seconds, ...; empty for names.
    group: heading in `--help`; empty: that of the field before.
    low: smallest allowed value; None: no bound.
    high: largest allowed value; None: no bound.
    above: all allowed values are larger; None: no bound.
    below: all allowed values are smaller; None: no bound.
    may_change: whether a run may be continued with another value. False for
      everything that changes the numbers the run computes.
  """
  metadata = {
    "text": text,
    "unit": unit,
    "group": group,
    "low": low,
    "high": high,
    "above": above,
    "below": below,
    "may_change": may_change,
  }
  return dataclasses.field(default=default, metadata=metadata)


def check_bounds(settings: Any) -> None:
  """Refuses fields of the wrong type or out of their bounds.

  Args:
    settings: a dataclass whose fields are options.

  Raises:
    UserError: it names the flag, the rule and the default.
  """
  for field in dataclasses.fields(settings):
    _check(field, getattr(settings, field.name))


def _check(field: dataclasses.Field[Any], value: Any) -> None:
  wanted = type(field.default)
  # An int where a float is meant is fine, and bool is not an int here.
  if type(value) is not wanted and not (wanted is float and type(value) is int):
    raise UserError(
      f"--{field.name}={value!r} must be a value of type {wanted.__name__}, "
      f"such as {field.default!r}"
    )
  if isinstance(value, float) and not math.isfinite(value):
    raise UserError(
      f"--{field.name}={value} must be finite; the default is {field.default}"
    )
  for bound, (words, holds) in _BOUNDS.items():
    limit = field.metadata[bound]
    if limit is not None and not holds(value, limit):
      raise UserError(
        f"--{field.name}={value} must be {words} {limit}; the default is "
        f"{field.default}"
      )


_BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
  "low": ("at least", operator.ge),
  "high": ("at most", operator.le),
  "above": ("greater than", operator.gt),
  "below": ("less than", operator.lt),
}
