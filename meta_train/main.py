"""The program behind `python -m meta_train`, from flags to exit code.

Exit codes: 0 for success, 2 for whatever the user can mend (one line on
standard error says how), 130 when interrupted from the keyboard, 143 when
terminated. Imports are inside the functions: `--help` needs no jax, and
`guard` looks before `tasks` is imported.

Main names: `main`.
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator, Sequence

from meta_train import guard
from meta_train.config import MetaTrainConfig
from meta_train.errors import UserError, closest


class _Terminated(BaseException):
  """SIGTERM came; it unwinds like a KeyboardInterrupt."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line and returns the exit code.

  Args:
    arguments: without the program's name; None: those of this process.
  """
  try:
    with _terminable():
      guard.check_packages()
      _dispatch(sys.argv[1:] if arguments is None else arguments)
  except UserError as error:
    print(f"meta_train: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    return _stopped("interrupted", 130)
  except _Terminated:
    return _stopped("terminated", 143)
  return 0


def _stopped(how: str, code: int) -> int:
  print(
    f"meta_train: {how}; the same command continues from the last checkpoint",
    file=sys.stderr,
  )
  return code


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
  """Makes SIGTERM raise `_Terminated` inside the `with`."""
  ours = threading.current_thread() is threading.main_thread()
  if not ours or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
    yield  # Only the main thread may, and whoever has a handler keeps it.
    return

  def terminate(number, frame):
    del number, frame
    # A second one may not stop the files from being closed.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Terminated

  signal.signal(signal.SIGTERM, terminate)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _dispatch(arguments: Sequence[str]) -> None:
  from meta_train import flags

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
  from meta_train import loop, machine

  machine.set_up(config)
  try:
    loop.run(config)
  except flt_lopt.WeightsError as error:
    raise UserError(str(error)) from error


def _check_suite(config: MetaTrainConfig) -> None:
  import tasks

  known = tasks.list_suites()
  if config.task_suite not in known:
    raise UserError(
      f"--task_suite={config.task_suite} is unknown"
      f"{closest(config.task_suite, known)} (there are: {', '.join(known)})"
    )


def _list_suites(config: MetaTrainConfig) -> None:
  del config
  import tasks

  print("\n".join(tasks.list_suites()))


def _list_tasks(config: MetaTrainConfig) -> None:
  del config
  import tasks

  print(
    f"{'name':44}{'family':22}{'data':24}{'parameters':>10}"
    f"{'MFLOP/step':>12}{'steps/s':>9}"
  )
  for name in tasks.registry.list_problems():
    (row,) = tasks.list_tasks([name], num_timed_steps=20)
    print(
      f"{row.name:44}{row.family:22}{row.data:24}{row.num_parameters:>10,}"
      f"{row.flops / 1e6:>12.2f}{row.steps_per_second:>9,.0f}",
      flush=True,
    )


def _list_recipes(config: MetaTrainConfig) -> None:
  del config
  from meta_train import configs

  print("\n".join(configs.list_recipes()))
