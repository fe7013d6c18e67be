"""The command line of `python -m meta_train.compare`.

It has flags of its own, and those of `python -m meta_train`, which are checked
here as they are there and passed on to every run. What the program sets itself
is refused by name.

Main names: `parse`, `CompareConfig`, `Request`, `help_text`.
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import NamedTuple

from meta_train.command import (
  command_line,
  compare_values,
  flags,
  program,
  shared_options,
)
from meta_train.command.compare_values import Value
from meta_train.command.options import check_bounds, option
from meta_train.config import MetaTrainConfig
from meta_train.errors import UserError, check_choice


@dataclasses.dataclass(frozen=True)
class CompareConfig:
  """The program's own flags.

  Raises:
    UserError: at construction, for a value out of its range, or a missing one.
  """

  setting: str = option(
    "",
    "which setting of python -m meta_train differs: variant, memory, "
    "controller, direction, estimator, augment, objective, ...",
    group="What to compare",
  )
  values: str = option(
    "",
    "its values, separated by commas, or by semicolons where there is one, so "
    "that values may have commas; the first is what the others are compared "
    "with; a value may be empty, may bring further settings, and may be called "
    "by a name: 'flt; none; bare: off --sigma_scale='",
  )
  meta_seeds: int = option(
    2,
    "how often to meta-train with each value, with the seeds 0, 1, ...; "
    "intervals tell of meta-training's own noise from two on",
    unit="runs",
    low=1,
  )
  evaluate_on: str = option(
    "validation_small",
    "suite whose held-out (or else validation) tasks all results are evaluated "
    "on, or a task of your own, written module:Name; what is chosen by a "
    "held-out suite is not held out any more",
    group="Evaluation",
  )
  eval_tasks: str = shared_options.chosen_tasks()
  eval_steps: int = shared_options.run_steps()
  eval_seeds: int = shared_options.run_seeds()
  folder: str = option(
    "",
    "where runs, evaluation and comparison go; empty: runs/compare-SETTING",
    group="The machine",
  )

  def __post_init__(self) -> None:
    check_bounds(self)
    if "," in self.path:
      raise UserError(
        f"--folder={self.folder} has a comma, which separates files of weights "
        "in the evaluation; name another folder"
      )

  @property
  def path(self) -> str:
    """The folder of the comparison."""
    return os.path.expanduser(self.folder or f"runs/compare-{self.setting}")

  @property
  def all_values(self) -> tuple[Value, ...]:
    """The values, the first being what the others are compared with."""
    return compare_values.split(self.values)


class Request(NamedTuple):
  """What the user asked for.

  Attributes:
    wants_help: whether that is the text of `--help`, and nothing else.
    config: the program's own settings.
    shared: flags of `python -m meta_train` that all runs have.
  """

  wants_help: bool
  config: CompareConfig
  shared: tuple[str, ...]


#: Settings of runs that the program sets, and what to do in place of it.
SET_HERE = {
  "run_dir": "give --folder",
  "seed": "give --meta_seeds",
  "evaluate": "give --evaluate_on",
  "num_processes": "runs are of one process here",
  "process_id": "runs are of one process here",
  "coordinator_address": "runs are of one process here",
}
PROGRAM = command_line.Program(
  name="python -m meta_train.compare",
  config=CompareConfig,
  actions={"help": "show this text"},
  passed_on=MetaTrainConfig,
)
_SUMMARY = (
  "Meta-trains with each value of a setting, and compares what comes of it."
)


def parse(arguments: Sequence[str]) -> Request:
  """Parses a command line.

  Args:
    arguments: the arguments, without the program's name.

  Raises:
    UserError: an unknown flag or setting, a malformed value, or a flag that
      the program sets itself.
  """
  parsed = command_line.parse(PROGRAM, arguments)
  own = {field.name for field in dataclasses.fields(CompareConfig)}
  config = CompareConfig(**{n: x for n, x in parsed.given.items() if n in own})
  passed = {n: x for n, x in parsed.given.items() if n not in own}
  if parsed.actions:
    return Request(True, config, ())
  _check(config, passed)
  shared = tuple(f"--{name}={value}" for name, value in passed.items())
  return Request(False, config, shared)


def help_text() -> str:
  """Returns the text of `--help`."""
  return "\n".join(
    [
      program.help_text(PROGRAM, CompareConfig(), _SUMMARY),
      "",
      f"All other flags of {flags.PROGRAM.name} are passed on to every run,",
      f"except {', '.join(f'--{name}' for name in SET_HERE)}.",
    ]
  )


def _check(config: CompareConfig, passed: dict[str, object]) -> None:
  names = [field.name for field in dataclasses.fields(MetaTrainConfig)]
  names = [name for name in names if name not in _not_compared()]
  if not config.setting:
    raise UserError(
      "there is nothing to compare; name a setting and its values, such as "
      "--setting=variant --values=flt_damped,ema"
    )
  check_choice("setting", config.setting, names)
  if len(config.all_values) < 2:
    raise UserError(
      f"--values={config.values} is one value; give two or more, separated by "
      "commas, the first being what the others are compared with"
    )
  _check_given(config, passed)
  for value in config.all_values:
    _check_given(config, value.further)
    for name in value.further:
      if name in _not_compared():
        raise UserError(
          f"--{name} is the same for all runs; give it beside --values"
        )


def _check_given(config: CompareConfig, given: dict[str, object]) -> None:
  """Refuses settings of runs that are not for the user to give."""
  for name, remedy in SET_HERE.items():
    if name in given:
      raise UserError(
        f"--{name} is set by the comparison itself; leave it out, and {remedy}"
      )
  if config.setting in given:
    raise UserError(
      f"--{config.setting} is the setting that is compared; leave it out, and "
      "give its values in --values"
    )


def _not_compared() -> set[str]:
  """Returns the settings that runs don't have, or not from the user."""
  own = {field.name for field in dataclasses.fields(CompareConfig)}
  return own | set(SET_HERE)
