"""What would be refused later is refused before the first run starts.

The parts of every run are put together here as the run does it, on the CPU and
without compiling anything but the start of a task of the user's own, so that a
value that does not fit the other settings costs seconds and not the hours of
the runs before it.

Main names: `check`.
"""

import dataclasses
from collections.abc import Sequence

import flt_lopt
from meta_train.command.compare_flags import CompareConfig
from meta_train.comparing import compare_folder
from meta_train.comparing.members import Member
from meta_train.engine import training
from meta_train.errors import UserError
from meta_train.evaluation.problems import (
  check_validation,
  choose_tasks,
  load_problems,
)
from meta_train.run import run_folder


def check(config: CompareConfig, members: Sequence[Member]) -> list[str]:
  """Refuses a comparison that could not be finished.

  Args:
    config: its settings.
    members: its runs.

  Returns:
    The names of the evaluation's tasks.

  Raises:
    UserError: the evaluation's tasks are unknown, a value is unknown or does
      not fit the other settings, or a folder holds another run.
  """
  compare_folder.check(config)
  tasks = choose_tasks(
    config.evaluate_on,
    names=config.eval_tasks,
    data_dir=members[0].config.data_dir,
    flags=("evaluate_on", "eval_tasks"),
  )
  for member in members:
    _check_folder(member)
    if member.seed == 0:
      _check_parts(config.setting, member)
  return [task.name for task in tasks]


def _check_folder(member: Member) -> None:
  try:
    run_folder.to_continue(member.config)
  except UserError as error:
    # What a run calls its folder follows from ours.
    raise UserError(str(error).replace("--run_dir", "--folder")) from error


def _check_parts(setting: str, member: Member) -> None:
  # The devices are those of the run, which looks for itself.
  config = dataclasses.replace(member.config, num_devices=1)
  begins = not run_folder.has_checkpoint(config.folder)
  try:
    problems = load_problems(config)
    check_validation(config, problems)
    training.build(config, problems.train, fresh=begins)
  except (UserError, flt_lopt.WeightsError) as error:
    plain = f"--{setting}={member.value}"
    what = plain if plain in member.arguments else member.value
    raise UserError(f"with {what}: {error}") from error
