"""`python -m meta_train.report FOLDER`: makes a page from its rows, anew.

Main names: `main`.
"""

import pathlib
import sys
from collections.abc import Callable, Sequence

from meta_train.command.program import run_on_folders
from meta_train.comparing.compare_folder import ABOUT as COMPARISON
from meta_train.errors import UserError
from meta_train.evaluation.evaluate import FILE_NAME
from meta_train.evaluation.evaluation_folder import ABOUT
from meta_train.reports import compare_report, report, suite_report
from meta_train.run.run_folder import CONFIG

_HELP = """\
Makes tables, pictures and report.html from the rows in a folder.

usage: python -m meta_train.report FOLDER [FOLDER ...]

A folder is that of a run (runs/quick-seed0), of an evaluation
(runs/evaluation-held_out_small) or of a comparison. Nothing is computed that
the rows do not hold; what is missing is told on the page."""


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line and returns the exit code.

  Args:
    arguments: without the program's name; None: those of this process.
  """
  return run_on_folders("meta_train.report", _run, arguments, text=_HELP)


def _run(words: Sequence[str]) -> None:
  for page in _pages(words):
    print(page)


def _pages(words: Sequence[str]) -> list[pathlib.Path]:
  if not words:
    raise UserError("name a folder, such as runs/quick-seed0; see --help")
  for word in words:
    _check(pathlib.Path(word))
  return [_maker(pathlib.Path(word))(word) for word in words]


def _check(folder: pathlib.Path) -> None:
  if not folder.is_dir():
    raise UserError(f"{folder} is no folder; name that of a run")
  if not any((folder / name).exists() for name in _MAKERS):
    raise UserError(
      f"{folder} holds no run, no evaluation and no comparison (none of "
      f"{', '.join(_MAKERS)}); name the folder that does"
    )


def _maker(folder: pathlib.Path) -> Callable[[str], pathlib.Path]:
  return next(
    make for name, make in _MAKERS.items() if (folder / name).exists()
  )


#: What writes the page of a folder that has a file of this name.
_MAKERS: dict[str, Callable[[str], pathlib.Path]] = {
  COMPARISON: compare_report.write_report,
  ABOUT: suite_report.write_report,
  CONFIG: report.write_report,
  FILE_NAME: report.write_report,
}


if __name__ == "__main__":
  sys.exit(main())
