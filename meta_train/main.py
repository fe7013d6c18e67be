"""The program behind `python -m meta_train`, from flags to exit code.

A first word that names another program, such as `evaluate`, starts that one.
Exit codes: 0 for success, 2 for whatever the user can mend (one line on
standard error says how), 130 when interrupted from the keyboard, 143 when
terminated. Imports are inside the functions: `--help` needs no jax, and
`guard` looks before `tasks` is imported.

Main names: `main`.
"""

import contextlib
import importlib
import sys
from collections.abc import Sequence

from meta_train import terminal
from meta_train.command import guard, signals
from meta_train.command.programs import PROGRAMS
from meta_train.config import MetaTrainConfig
from meta_train.errors import UserError, check_choice, closest


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line and returns the exit code.

  Args:
    arguments: without the program's name; None: those of this process.
  """
  words = list(sys.argv[1:] if arguments is None else arguments)
  if words and words[0] in PROGRAMS:
    module = importlib.import_module(PROGRAMS[words[0]].module)
    if arguments is not None:
      return module.main(words[1:])
    # As if it had been started by itself: folders keep the command line.
    sys.argv[:] = [str(module.__file__), *words[1:]]
    return module.main()
  try:
    with signals.terminable(), terminal.heard():
      guard.check_packages()
      _dispatch(words)
  except UserError as error:
    terminal.say(f"meta_train: {' '.join(str(error).split())}")
    return 2
  except signals.Stopped as error:
    terminal.say(f"meta_train: {error}")
    return error.code
  return 0


def _dispatch(arguments: Sequence[str]) -> None:
  from meta_train.command import flags

  if arguments and not arguments[0].startswith("-"):
    raise UserError(
      f"{arguments[0]!r} is no program{closest(arguments[0], PROGRAMS)} (there "
      f"are: {', '.join(PROGRAMS)}); settings are written as --name=value"
    )
  command = flags.parse(arguments)
  actions = {
    "run": _run,
    "help": lambda config: print(flags.help_text(config)),
    "list_suites": _list_suites,
    "list_tasks": _list_tasks,
    "list_recipes": _list_recipes,
  }
  actions[command.action](command.config)


def _run(config: MetaTrainConfig) -> None:
  _check_suite(config)
  import flt_lopt
  from meta_train.run import machine, whole

  group = machine.set_up(
    config.num_devices,
    config.compilation_cache_dir,
    coordinator_address=config.coordinator_address,
    num_processes=config.num_processes,
    process_id=config.process_id,
  )
  try:
    with contextlib.closing(group):
      whole.run(config, group)
  except flt_lopt.WeightsError as error:
    raise UserError(str(error)) from error


def _check_suite(config: MetaTrainConfig) -> None:
  import tasks

  check_choice("task_suite", config.task_suite, tasks.list_suites())


def _list_suites(config: MetaTrainConfig) -> None:
  del config
  import tasks

  print("\n".join(tasks.list_suites()))


def _list_tasks(config: MetaTrainConfig) -> None:
  del config
  import tasks

  print(
    f"{'name':44}{'family':22}{'data':24}{'parameters':>10}"
    f"{'MFLOP/step':>12}{'steps/s':>12}"
  )
  for name in tasks.registry.list_problems():
    (row,) = tasks.list_tasks([name], num_timed_steps=20)
    print(
      f"{row.name:44}{row.family:22}{row.data:24}{row.num_parameters:>10,}"
      f"{row.flops / 1e6:>12.2f}{row.steps_per_second:>12,.0f}",
      flush=True,
    )


def _list_recipes(config: MetaTrainConfig) -> None:
  del config
  from meta_train import configs

  print("\n".join(configs.list_recipes()))
