"""The command line of `python -m meta_train`: settings, recipes, lists.

Main names: `parse`, `CommandLine`, `help_text`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from meta_train import config as config_lib
from meta_train import configs
from meta_train.command import command_line
from meta_train.command.programs import PROGRAMS

PROGRAM = command_line.Program(
  name="python -m meta_train",
  config=config_lib.MetaTrainConfig,
  actions={
    "help": "show this text; with --recipe, that recipe's values",
    "list_suites": "list the task suites",
    "list_tasks": "list the tasks",
    "list_recipes": "list the recipes",
  },
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
  parsed = command_line.parse(PROGRAM, arguments)
  config = dataclasses.replace(_base(parsed.given), **parsed.given)
  return CommandLine((*parsed.actions, "run")[0], config)


def help_text(config: config_lib.MetaTrainConfig) -> str:
  """Returns the text of `--help`, with a config's values as the defaults."""
  lines = [
    "Meta-trains a learned optimizer, evaluates it and writes a report.",
    "",
    f"usage: {PROGRAM.name} [--name=value ...]",
    "",
    "The same command again continues a run that was stopped.",
    *command_line.flag_entries(PROGRAM, config),
    *command_line.action_entries(PROGRAM),
    "",
    f"Other programs ({PROGRAM.name} NAME --help):",
    *(
      line
      for name, other in PROGRAMS.items()
      for line in command_line.entry(name, other.summary)
    ),
  ]
  return "\n".join(lines)


def _base(given: dict[str, Any]) -> config_lib.MetaTrainConfig:
  if given.get("recipe"):
    return configs.get_recipe(given["recipe"])
  suite = given.get("task_suite", config_lib.MetaTrainConfig().task_suite)
  if suite in configs.list_recipes():
    return configs.get_recipe(suite)
  return config_lib.MetaTrainConfig()
