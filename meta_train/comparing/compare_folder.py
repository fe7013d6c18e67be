"""The folder of a comparison: a folder for each run, and the evaluation.

`compare.json` says what is compared, from the start, and how each value fared,
in the end; `evaluation/` is a folder of `python -m meta_train.evaluate`. A
folder belongs to one setting, and to one suite, number of steps and number of
seeds of the evaluation.

Main names: `announce`, `check`, `read`, `evaluation_flags`, `Plan`.
"""

import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

from meta_train.command.compare_flags import CompareConfig
from meta_train.comparing.members import Member
from meta_train.errors import UserError
from meta_train.evaluation import evaluation_folder, folder_lock
from meta_train.rows import Row, read_json, write_json
from meta_train.run import run_folder

ABOUT = "compare.json"
EVALUATION = "evaluation"
_KIND = "flt_lopt comparison"


class Plan(NamedTuple):
  """What is compared.

  Attributes:
    setting: the setting.
    runs: value -> names of its runs, by meta-seed; the first value is what the
      others are compared with.
    evaluation: suite, steps, seeds and tasks of the evaluation.
    flags: value -> its flags, of values that have a name of their own or bring
      further settings.
  """

  setting: str
  runs: dict[str, list[str]]
  evaluation: Row
  flags: dict[str, str]

  @property
  def reference(self) -> str:
    """The value that the others are compared with."""
    return next(iter(self.runs))


def check(config: CompareConfig) -> None:
  """Refuses a folder that holds something else; writes nothing.

  Args:
    config: the settings of the comparison.

  Raises:
    UserError: it says what is there.
  """
  path = pathlib.Path(config.path)
  if not path.exists():
    return
  try:
    names = {entry.name for entry in path.iterdir()} - {folder_lock.LOCK}
  except OSError as error:
    raise UserError(
      f"--folder={path} can't be read ({error.strerror}); name another folder"
    ) from None
  about, _ = read_json(path / ABOUT)
  if names and (about is None or about.get("kind") != _KIND):
    raise UserError(
      f"--folder={path} holds {min(names)}, and no comparison ({ABOUT}); name "
      "another folder"
    )
  if about is not None and about.get("setting") != config.setting:
    raise UserError(
      f"--folder={path} holds a comparison of --setting="
      f"{about.get('setting')}; name another folder"
    )


def announce(
  config: CompareConfig, members: Sequence[Member], tasks: Sequence[str]
) -> None:
  """Writes what is to be compared.

  Args:
    config: the settings of the comparison.
    members: its runs.
    tasks: names of the tasks of the evaluation.

  Raises:
    UserError: the folder holds something else, or its evaluation was of
      another suite, number of steps or number of seeds.
  """
  check(config)
  evaluation_folder.open_folder(
    pathlib.Path(config.path) / EVALUATION,
    suite=config.evaluate_on,
    num_steps=config.eval_steps,
    num_seeds=config.eval_seeds,
  )
  values = config.all_values
  runs: dict[str, list[str]] = {value.label: [] for value in values}
  for member in members:
    runs[member.value].append(member.name)
  write_json(
    pathlib.Path(config.path) / ABOUT,
    {
      "kind": _KIND,
      "setting": config.setting,
      "runs": runs,
      "flags": {
        value.label: " ".join(
          [f"--{config.setting}={value.text}", *value.flags]
        )
        for value in values
        if value.label != value.text
      },
      "evaluation": {
        "task_suite": config.evaluate_on,
        "num_steps": config.eval_steps,
        "num_seeds": config.eval_seeds,
        "tasks": list(tasks),
      },
    },
  )


def read(folder: str | os.PathLike) -> Plan:
  """Returns what is compared.

  Args:
    folder: of the comparison.

  Raises:
    UserError: it is none.
  """
  file = pathlib.Path(folder) / ABOUT
  about, _ = read_json(file, required=("setting", "runs", "evaluation"))
  if about is None or about.get("kind") != _KIND or not about["runs"]:
    raise UserError(f"{file} is missing, damaged or of no comparison")
  return Plan(
    about["setting"],
    about["runs"],
    about["evaluation"],
    about.get("flags", {}),
  )


def add_results(folder: str | os.PathLike, results: Row) -> None:
  """Writes how each value fared beside what is compared.

  Args:
    folder: of the comparison.
    results: what JSON can hold, with other names than the rest has.
  """
  file = pathlib.Path(folder) / ABOUT
  write_json(file, {**(read_json(file)[0] or {}), **results})


def evaluation_flags(
  config: CompareConfig, members: Sequence[Member]
) -> list[str]:
  """Returns the flags of `python -m meta_train.evaluate` for all results.

  Args:
    config: the settings of the comparison.
    members: its runs.
  """
  path, machine = pathlib.Path(config.path), members[0].config
  weights = ",".join(str(path / m.name / run_folder.WEIGHTS) for m in members)
  return [
    f"--weights={weights}",
    f"--task_suite={config.evaluate_on}",
    f"--tasks={config.eval_tasks}",
    f"--steps={config.eval_steps}",
    f"--seeds={config.eval_seeds}",
    f"--folder={path / EVALUATION}",
    "--overhead_tasks=0",
    f"--data_dir={machine.data_dir}",
    f"--num_devices={machine.num_devices}",
    f"--compilation_cache_dir={machine.compilation_cache_dir}",
  ]
