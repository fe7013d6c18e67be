"""A command line made from the fields of a dataclass, one flag a field.

Flags are parsed by absl into an instance of their own, never into the global
`FLAGS`, so that a program or a test can parse as often as it likes. What the
user got wrong becomes a `UserError` of one line. Fields state their text,
unit and heading in their metadata, as those of `meta_train.config` do.

Main names: `Program`, `parse`, `entry`, `flag_entries`.
"""

import dataclasses
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

from meta_train.errors import UserError, closest

_DEFINE: dict[type, Callable[..., Any]] = {
  bool: flags.DEFINE_bool,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
  str: flags.DEFINE_string,
}
_TYPE_TEXTS = {bool: "true or false", int: "an integer", float: "a number"}


class Program(NamedTuple):
  """A program, as its command line sees it.

  Attributes:
    name: how it is started, such as "python -m meta_train".
    config: dataclass whose fields are the flags.
    actions: further flags without a value, and what they do; "help" is one.
    passed_on: dataclass whose fields are flags too, where `config` has none of
      the same name, to be passed on to another program; None: there is none.
  """

  name: str
  config: type
  actions: Mapping[str, str]
  passed_on: type | None = None

  @property
  def fields(self) -> tuple[dataclasses.Field[Any], ...]:
    """The fields that are flags."""
    own = dataclasses.fields(self.config)
    if self.passed_on is None:
      return own
    names = {field.name for field in own}
    others = dataclasses.fields(self.passed_on)
    return (*own, *(field for field in others if field.name not in names))


class Parsed(NamedTuple):
  """What a command line says.

  Attributes:
    given: field name -> value, of the flags that were given.
    actions: the actions that were asked for.
  """

  given: dict[str, Any]
  actions: tuple[str, ...]


def parse(program: Program, arguments: Sequence[str]) -> Parsed:
  """Parses a command line.

  Args:
    program: whose.
    arguments: the arguments, without the program's name.

  Raises:
    UserError: an unknown flag, a malformed value, or a word that is no flag.
  """
  values = _define(program)
  try:
    rest = values([program.name, *arguments])[1:]
  except flags.UnrecognizedFlagError as error:
    raise UserError(_unknown(program, error.flagname)) from None
  except flags.IllegalFlagValueError as error:
    raise UserError(_illegal(program, str(error))) from None
  except flags.Error as error:
    text = str(error).removeprefix("ERROR:: ")
    raise UserError(f"{text}; see {program.name} --help") from None
  except ValueError as error:  # What absl raises for --noNAME=value.
    raise UserError(f"{error}; see {program.name} --help") from None
  if rest:
    raise UserError(
      f"unexpected argument {rest[0]!r}; write settings as --name=value, see "
      f"{program.name} --help"
    )
  return Parsed(
    given={
      field.name: values[field.name].value
      for field in program.fields
      if values[field.name].present
    },
    actions=tuple(name for name in program.actions if values[name].value),
  )


def flag_entries(program: Program, config: Any) -> list[str]:
  """Returns the lines of `--help` on the program's own fields, by heading.

  Args:
    program: whose.
    config: its values are shown as the defaults.
  """
  lines = []
  for field in dataclasses.fields(program.config):
    if field.metadata["group"]:
      lines += ["", f"{field.metadata['group']}:"]
    value = getattr(config, field.name)
    default = _shown(value, field.metadata["unit"])
    if value is True:
      default += f"; off: --no{field.name}"
    lines += entry(f"--{field.name}", f"{field.metadata['text']} ({default})")
  return lines


def action_entries(program: Program) -> list[str]:
  """Returns the lines of `--help` on all other flags."""
  lines = ["", "Other:"]
  for name, text in program.actions.items():
    lines += entry(f"--{name}", f"{text} (default: false)")
  return lines


def entry(head: str, text: str) -> list[str]:
  """Returns the lines of `--help` on one flag, such as `--seed`."""
  indent = " " * 28
  wrapped = textwrap.wrap(
    text,
    79,
    initial_indent=indent,
    subsequent_indent=indent,
    break_on_hyphens=False,
  )
  head = f"  {head}"
  if len(head) < len(indent):
    return [head.ljust(len(indent)) + wrapped[0].lstrip(), *wrapped[1:]]
  return [head, *wrapped]


def _define(program: Program) -> flags.FlagValues:
  values = flags.FlagValues()
  for field in program.fields:
    text = field.metadata["text"]
    define = _DEFINE[type(field.default)]
    define(field.name, field.default, text, flag_values=values)
  for name, text in program.actions.items():
    short = "h" if name == "help" else None
    flags.DEFINE_bool(name, False, text, short_name=short, flag_values=values)
  return values


def _unknown(program: Program, name: str) -> str:
  fields = [field.name for field in program.fields]
  known = [*fields, *program.actions]
  hint = closest(name, known).replace("mean ", "mean --")
  return f"unknown flag --{name}{hint} (all flags: {program.name} --help)"


def _illegal(program: Program, message: str) -> str:
  """Rewrites absl's message, which quotes Python's."""
  match = re.match(r"flag --(\w+)=(.*?):", message, re.DOTALL)
  defaults = {field.name: field.default for field in program.fields}
  defaults |= dict.fromkeys(program.actions, False)
  if match is None or match[1] not in defaults:
    return message
  default = defaults[match[1]]
  return (
    f"--{match[1]}={match[2]} is not {_TYPE_TEXTS[type(default)]}; "
    f"the default is {str(default).lower()}"
  )


def _shown(value: Any, unit: str) -> str:
  if isinstance(value, bool):
    return f"default: {str(value).lower()}"
  shown = "empty" if value == "" else f"{value}"
  return f"default: {shown} {unit}".rstrip()
