"""The command line, made from the fields of `MetaTrainConfig`.

Flags are parsed by absl into an instance of their own, never into the global
`FLAGS`, so that a program or a test can parse as often as it likes. What the
user got wrong becomes a `UserError` of one line.

Main names: `parse`, `CommandLine`, `help_text`.
"""

import dataclasses
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from absl import flags

from meta_train import config as config_lib
from meta_train import configs
from meta_train.errors import UserError, closest

PROGRAM = "python -m meta_train"

_DEFINE: dict[type, Callable[..., Any]] = {
  bool: flags.DEFINE_bool,
  int: flags.DEFINE_integer,
  float: flags.DEFINE_float,
  str: flags.DEFINE_string,
}
_TYPE_TEXTS = {bool: "true or false", int: "an integer", float: "a number"}
_ACTIONS = {
  "help": "show this text; with --recipe, that recipe's values",
  "list_suites": "list the task suites",
  "list_tasks": "list the tasks",
  "list_recipes": "list the recipes",
}
_RECIPE_TEXT = (
  "take all settings from this file of meta_train/configs; flags given beside "
  "it win; empty: the recipe with the suite's name, if there is one"
)


class CommandLine(NamedTuple):
  """What the user asked for.

  Attributes:
    action: "run", or one of "help", "list_suites", "list_tasks",
      "list_recipes".
    config: the settings: defaults, then recipe, then flags.
  """

  action: str
  config: config_lib.MetaTrainConfig


def parse(arguments: Sequence[str]) -> CommandLine:
  """Parses a command line.

  Args:
    arguments: the arguments, without the program's name.

  Raises:
    UserError: an unknown flag or recipe, a malformed value, or settings that
      `MetaTrainConfig` refuses. Whether a suite or a task exists is for
      those to say who load it.
  """
  values = _define()
  try:
    rest = values([PROGRAM, *arguments])[1:]
  except flags.UnrecognizedFlagError as error:
    raise UserError(_unknown(error.flagname, values)) from None
  except flags.IllegalFlagValueError as error:
    raise UserError(_illegal(str(error))) from None
  except flags.Error as error:
    text = str(error).removeprefix("ERROR:: ")
    raise UserError(f"{text}; see {PROGRAM} --help") from None
  except ValueError as error:  # What absl raises for --noNAME=value.
    raise UserError(f"{error}; see {PROGRAM} --help") from None
  if rest:
    raise UserError(
      f"unexpected argument {rest[0]!r}; write settings as --name=value, see "
      f"{PROGRAM} --help"
    )
  given: dict[str, Any] = {
    field.name: values[field.name].value
    for field in config_lib.options()
    if values[field.name].present
  }
  base = _base(values["recipe"].value or "", given)
  config = dataclasses.replace(base, **given)
  asked = [name for name in _ACTIONS if values[name].value]
  return CommandLine(asked[0] if asked else "run", config)


def help_text(config: config_lib.MetaTrainConfig) -> str:
  """Returns the text of `--help`, with a config's values as the defaults."""
  lines = [
    "Meta-trains a learned optimizer, evaluates it and writes a report.",
    "",
    f"usage: {PROGRAM} [--name=value ...]",
    "",
    "The same command again continues a run that was stopped.",
  ]
  for field in config_lib.options():
    if field.metadata["group"]:
      lines += ["", f"{field.metadata['group']}:"]
    default = _shown(getattr(config, field.name), field.metadata["unit"])
    lines += _entry(field.name, f"{field.metadata['text']} ({default})")
  lines += ["", "Other:", *_entry("recipe", f"{_RECIPE_TEXT} (default: empty)")]
  for name, text in _ACTIONS.items():
    lines += _entry(name, f"{text} (default: false)")
  return "\n".join(lines)


def _define() -> flags.FlagValues:
  values = flags.FlagValues()
  for field in config_lib.options():
    text = field.metadata["text"]
    define = _DEFINE[type(field.default)]
    define(field.name, field.default, text, flag_values=values)
  flags.DEFINE_string("recipe", "", _RECIPE_TEXT, flag_values=values)
  for name, text in _ACTIONS.items():
    short = "h" if name == "help" else None
    flags.DEFINE_bool(name, False, text, short_name=short, flag_values=values)
  return values


def _base(recipe: str, given: dict[str, Any]) -> config_lib.MetaTrainConfig:
  if recipe:
    return configs.get_recipe(recipe)
  suite = given.get("task_suite", config_lib.MetaTrainConfig().task_suite)
  if suite in configs.list_recipes():
    return configs.get_recipe(suite)
  return config_lib.MetaTrainConfig()


def _unknown(name: str, values: flags.FlagValues) -> str:
  names = [*(field.name for field in config_lib.options()), "recipe", *_ACTIONS]
  hint = closest(name, names).replace("mean ", "mean --")
  return f"unknown flag --{name}{hint} (all flags: {PROGRAM} --help)"


def _illegal(message: str) -> str:
  """Rewrites absl's message, which quotes Python's."""
  match = re.match(r"flag --(\w+)=(.*?):", message, re.DOTALL)
  defaults = {field.name: field.default for field in config_lib.options()}
  defaults |= dict.fromkeys(_ACTIONS, False)
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


def _entry(name: str, text: str) -> list[str]:
  indent = " " * 28
  wrapped = textwrap.wrap(
    text,
    79,
    initial_indent=indent,
    subsequent_indent=indent,
    break_on_hyphens=False,
  )
  head = f"  --{name}"
  if len(head) < len(indent):
    return [head.ljust(len(indent)) + wrapped[0].lstrip(), *wrapped[1:]]
  return [head, *wrapped]
