"""`python -m meta_train.publish FROM TO`: what of an evaluation is kept.

Copies from an evaluation's folder what its page is made of, without what the
package holds already (the shipped baselines' rows) and without what tells of
the machine's folders. `python -m meta_train.report TO` makes the page anew.

Main names: `main`, `publish`.
"""

import gzip
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Sequence

from meta_train.command.program import run_on_folders
from meta_train.errors import UserError
from meta_train.evaluation.baseline_results import is_shipped
from meta_train.evaluation.evaluate import FILE_NAME
from meta_train.evaluation.evaluation_folder import ABOUT, OVERHEAD
from meta_train.evaluation.sweeps import is_refusal
from meta_train.rows import finite, read_json, read_rows, write_json

_HELP = """\
Keeps what a report is made of, packed.

usage: python -m meta_train.publish FROM TO

FROM is the folder of an evaluation (runs/evaluation-held_out_small); TO gets
its rows, packed, and can be given to python -m meta_train.report."""


def publish(source: str | os.PathLike, target: str | os.PathLike) -> None:
  """Copies an evaluation.

  Args:
    source: folder of the evaluation.
    target: folder to write to, made if need be.

  Raises:
    UserError: the one is no evaluation, or the other can't be written.
  """
  source, target = pathlib.Path(source), pathlib.Path(target)
  if source.resolve() == target.resolve():
    raise UserError(f"{source} can't be published into itself; name another")
  about, problems = read_json(source / ABOUT)
  rows = read_rows(source / FILE_NAME)
  if about is None or rows.problems:
    raise UserError(
      f"{source} is not the folder of a whole evaluation "
      f"({' '.join([*problems, *rows.problems])}); name one that is"
    )
  kept = [row for row in rows.rows if not is_shipped(row)]
  text = "".join(
    json.dumps(finite(row), allow_nan=False, separators=(",", ":")) + "\n"
    for row in kept
  )
  about = {name: about[name] for name in about if name != "settings"}
  # What else there was is told anew, from the baselines that ship when the
  # page is made.
  about["problems"] = [x for x in about.get("problems", ()) if is_refusal(x)]
  environment = about.get("environment", {})
  about["environment"] = {
    name: environment[name] for name in environment if name != "command"
  }
  try:
    target.mkdir(parents=True, exist_ok=True)
    for file in _files(target):
      file.unlink(missing_ok=True)
    write_json(target / ABOUT, about)
    # Without the time, so that the same rows are the same file.
    packed = gzip.compress(text.encode(), mtime=0)
    (target / f"{FILE_NAME}.gz").write_bytes(packed)
    for file in _files(source)[1:]:
      if file.exists():
        shutil.copyfile(file, target / file.name)
  except OSError as error:
    raise UserError(
      f"{target} can't be written ({error.strerror}); name another folder"
    ) from None


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns rows, costs and kernels of an evaluation, there or not."""
  return [
    folder / FILE_NAME,
    folder / OVERHEAD,
    *folder.glob("kernels-*.json"),
  ]


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


if __name__ == "__main__":
  sys.exit(main())
