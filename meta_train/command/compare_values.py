"""The values that a comparison is of, as `--values` writes them.

A value may bring further settings, since one part can rarely be swapped alone:

    --setting=controller --values='flt; none; bare: off --sigma_scale='

are two values, and one that is called bare, whose runs have another
`--sigma_scale` than the rest.

Main names: `Value`, `split`.
"""

import re
from typing import NamedTuple

from meta_train.command import command_line, flags
from meta_train.errors import UserError

_SETTINGS = command_line.Program(
  name=flags.PROGRAM.name, config=flags.PROGRAM.config, actions={}
)
#: A name, a colon, and a blank or nothing; the value module:Name has no blank.
_NAMED = re.compile(
  r"(?P<label>(?:(?!--)[^:])*[^:\s])\s*:(?:\s+(?P<rest>.*)|$)", re.DOTALL
)


class Value(NamedTuple):
  """One value of the setting that is compared.

  Attributes:
    label: what it is called.
    text: the value itself.
    further: settings of its runs that differ from the shared ones.
  """

  label: str
  text: str
  further: dict[str, object]

  @property
  def flags(self) -> tuple[str, ...]:
    """The further settings as flags."""
    return tuple(f"--{name}={value}" for name, value in self.further.items())


def split(values: str) -> tuple[Value, ...]:
  """Returns the values that a text names.

  Args:
    values: separated by semicolons where there is one, else by commas. Each is
      `VALUE`, `VALUE --name=value ...` or `LABEL: VALUE --name=value ...`. A
      value that has a colon itself has no blank behind it, or a label.

  Raises:
    UserError: a further setting is unknown or malformed, or a label is used
      twice.
  """
  separator = ";" if ";" in values else ","
  found = tuple(_value(entry.strip()) for entry in values.split(separator))
  labels = [each.label for each in found]
  for label in labels:
    if labels.count(label) > 1:
      raise UserError(
        f"--values has {label or 'the empty value'} twice; leave one out, or "
        "call them by different names, as in 'NAME: VALUE'"
      )
  return found


def _value(entry: str) -> Value:
  named = _NAMED.fullmatch(entry)
  rest = (named["rest"] or "") if named else entry
  text, *words = re.split(r"(?:^|\s+)(?=--)", rest)
  try:
    further = command_line.parse(_SETTINGS, [w.strip() for w in words]).given
  except UserError as error:
    raise UserError(f"--values, {entry!r}: {error}") from error
  return Value(named["label"].strip() if named else entry, text, further)
