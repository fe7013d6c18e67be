"""`python -m meta_train.publish FROM TO`: what of a result is kept.

Copies from the folder of an evaluation, or of a comparison, what its page is
made of, without what the package holds already (the shipped baselines' rows)
and without what tells of the machine's folders. `python -m meta_train.report
TO` makes the page anew.

Main names: `main`, `publish`.
"""

import os
import pathlib
import shutil
import sys
from collections.abc import Sequence

from meta_train.command.program import run_on_folders
from meta_train.comparing import compare_folder, kept_runs
from meta_train.errors import UserError
from meta_train.evaluation.baseline_results import is_shipped
from meta_train.evaluation.evaluate import FILE_NAME
from meta_train.evaluation.evaluation_folder import ABOUT, OVERHEAD
from meta_train.evaluation.sweeps import is_refusal
from meta_train.rows import read_json, read_rows, write_json, write_rows

_PACKED = f"{FILE_NAME}.gz"
_HELP = """\
Keeps what a report is made of, packed.

usage: python -m meta_train.publish FROM TO

FROM is the folder of an evaluation (runs/evaluation-held_out_small) or of a
comparison (runs/compare-variant); TO gets its rows, packed, in place of what
was published there before, and can be given to python -m meta_train.report."""


def publish(source: str | os.PathLike, target: str | os.PathLike) -> None:
  """Copies an evaluation, or a comparison with its evaluation.

  Args:
    source: folder of the one or the other.
    target: folder to write to, made if need be; what was published there before
      is replaced.

  Raises:
    UserError: the one is neither or not whole, or the other holds something
      else or can't be written.
  """
  source, target = pathlib.Path(source), pathlib.Path(target)
  if source.resolve() == target.resolve():
    raise UserError(f"{source} can't be published into itself; name another")
  _check_target(target)
  try:
    if (source / compare_folder.ABOUT).exists():
      _publish_comparison(source, target)
    else:
      _publish_evaluation(source, target)
  except OSError as error:
    raise UserError(
      f"{target} can't be written ({error.strerror}); name another folder"
    ) from None


def _check_target(target: pathlib.Path) -> None:
  """Refuses a folder whose rows, or other files, were not published there."""
  parts = (target, target / compare_folder.EVALUATION)
  for part in parts:
    if (part / FILE_NAME).exists():
      raise UserError(
        f"{part} holds the rows of an evaluation that is not packed, which "
        "would be lost; name another folder"
      )
  try:
    names = {entry.name for entry in target.iterdir()}
  except FileNotFoundError:
    return
  except OSError as error:
    raise UserError(
      f"{target} can't be read ({error.strerror}); name another folder"
    ) from None
  if names and not any((part / _PACKED).exists() for part in parts):
    raise UserError(
      f"{target} holds {min(names)}, and nothing that was published; name "
      "another folder"
    )


def _publish_evaluation(
  source: pathlib.Path, target: pathlib.Path, *, kernels: bool = True
) -> None:
  """Copies an evaluation, with or without its kernels."""
  about, problems = read_json(source / ABOUT)
  rows = read_rows(source / FILE_NAME)
  if about is None or rows.problems:
    raise UserError(
      f"{source} is not the folder of a whole evaluation "
      f"({' '.join([*problems, *rows.problems])}); name one that is"
    )
  kept = [row for row in rows.rows if not is_shipped(row)]
  left = {"settings"} if kernels else {"settings", "kernels"}
  about = {name: about[name] for name in about if name not in left}
  # What else there was is told anew, from the baselines that ship when the
  # page is made.
  about["problems"] = [x for x in about.get("problems", ()) if is_refusal(x)]
  environment = about.get("environment", {})
  about["environment"] = {
    name: environment[name] for name in environment if name != "command"
  }
  target.mkdir(parents=True, exist_ok=True)
  for file in _beside_rows(target):
    file.unlink(missing_ok=True)
  write_json(target / ABOUT, about)
  write_rows(target / _PACKED, kept)
  for file in _beside_rows(source) if kernels else [source / OVERHEAD]:
    if file.exists():
      shutil.copyfile(file, target / file.name)


def _publish_comparison(source: pathlib.Path, target: pathlib.Path) -> None:
  """Copies a comparison: its plan, a row for each run, and its evaluation.

  The page shows no kernels, of which there would be a file for each run.
  """
  runs, problems = kept_runs.read(source, compare_folder.read(source))
  if problems:
    raise UserError(
      f"{source} is not the folder of a whole comparison "
      f"({' '.join(problems)}); name one that is"
    )
  evaluation = compare_folder.EVALUATION
  _publish_evaluation(source / evaluation, target / evaluation, kernels=False)
  kept_runs.write(target, runs)
  write_json(
    target / compare_folder.ABOUT, read_json(source / compare_folder.ABOUT)[0]
  )


def _beside_rows(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the costs and kernels of an evaluation, there or not."""
  return [folder / OVERHEAD, *folder.glob("kernels-*.json")]


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line and returns the exit code.

  Args:
    arguments: without the program's name; None: those of this process.
  """
  return run_on_folders("meta_train.publish", _run, arguments, text=_HELP)


def _run(words: Sequence[str]) -> None:
  if len(words) != 2:
    raise UserError("name two folders, FROM and TO; see --help")
  publish(*words)
  print(f"published in {words[1]}")


if __name__ == "__main__":
  sys.exit(main())
