"""What of a comparison's runs outlives their folders: a row for each.

`runs.jsonl` stands in a published comparison in the place of the runs' folders.

Names: `read`, `write`, `FILE_NAME`.
"""

import os
import pathlib

from meta_train.comparing.compare_folder import Plan
from meta_train.comparing.outcomes import Run, read_run
from meta_train.rows import read_rows, write_rows

FILE_NAME = "runs.jsonl"


def read(
  folder: str | os.PathLike, plan: Plan
) -> tuple[dict[str, list[Run]], list[str]]:
  """Reads what the runs of a comparison tell.

  Args:
    folder: of the comparison.
    plan: what is compared.

  Returns:
    Value -> its runs, by meta-seed, and a sentence for each thing that is
    missing.
  """
  path = pathlib.Path(folder)
  kept, problems = _kept(path / FILE_NAME)
  runs: dict[str, list[Run]] = {}
  for value, names in plan.runs.items():
    runs[value] = []
    for name in names:
      run = kept.get(name)
      if run is None:
        run, missing = read_run(path / name)
        problems += missing
      runs[value].append(run)
  return runs, problems


def write(folder: str | os.PathLike, runs: dict[str, list[Run]]) -> None:
  """Writes what runs tell.

  Args:
    folder: of the published comparison.
    runs: value -> its runs.
  """
  rows = [run._asdict() for each in runs.values() for run in each]
  write_rows(pathlib.Path(folder) / FILE_NAME, rows)


def _kept(file: pathlib.Path) -> tuple[dict[str, Run], list[str]]:
  if not file.exists():
    return {}, []
  found = read_rows(file, required=Run._fields)
  return {
    row["name"]: Run(**{name: row[name] for name in Run._fields})
    for row in found.rows
  }, list(found.problems)
