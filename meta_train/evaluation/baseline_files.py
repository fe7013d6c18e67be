"""Files of baseline results: their format, and what they were measured by.

Idea: a task has one packed file. Its first line, the header, says what task
the rows were measured on, how, by which versions and on which machine; all
others are the rows. What a header must say today is made anew from the task
and the baselines, and compared.

Names: `ResultsFile`, `load`, `write`, `path_of`, `protocol`, `protocol_of`,
`differing`, `fingerprint`, `FOLDER`.
"""

import gzip
import json
import os
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from meta_train.evaluation import run_rows
from meta_train.evaluation.baseline_runs import BEYOND, TUNING_SEED
from meta_train.evaluation.baselines import Baseline
from meta_train.evaluation.candidates import baseline_candidate
from meta_train.evaluation.curves import NUM_FINAL_BATCHES
from meta_train.evaluation.definition import definition
from meta_train.evaluation.measures import smoothing
from meta_train.evaluation.protocol import NUM_SEEDS, NUM_STEPS
from meta_train.rows import Row, write_rows

#: Where those are that ship with the package.
FOLDER = pathlib.Path(__file__).resolve().parent / "baseline_results"
#: The program that makes them.
REMAKE = "python -m meta_train.make_baselines"
_KIND = "flt_lopt baseline results"


class ResultsFile(NamedTuple):
  """What a file of baseline results holds.

  Attributes:
    header: task, protocol and provenance.
    rows: the rows of all baselines.
  """

  header: dict[str, Any]
  rows: list[Row]


def path_of(task: Any, folder: str | os.PathLike | None = None) -> pathlib.Path:
  """Returns the file of a task's results.

  Args:
    task: the task.
    folder: of the files; `None`: `FOLDER`.
  """
  return (
    pathlib.Path(FOLDER if folder is None else folder) / f"{task.name}.jsonl.gz"
  )


def load(path: str | os.PathLike) -> ResultsFile | None:
  """Reads a file; `None` if there is none, or it is damaged.

  Args:
    path: the file.
  """
  try:
    text = gzip.decompress(pathlib.Path(path).read_bytes()).decode()
    header, *rows = (json.loads(line) for line in text.splitlines())
  except (OSError, EOFError, ValueError, zlib.error):
    return None
  if not isinstance(header, dict) or header.get("kind") != _KIND:
    return None
  return ResultsFile(header, rows)


def write(path: str | os.PathLike, results: ResultsFile) -> None:
  """Writes a file in one atomic step.

  Args:
    path: the file; its folder is made if need be.
    results: its content.
  """
  write_rows(path, [results.header, *results.rows])


def protocol(
  task: Any,
  *,
  num_steps: int = NUM_STEPS,
  num_seeds: int = NUM_SEEDS,
  num_final_batches: int = NUM_FINAL_BATCHES,
) -> dict[str, Any]:
  """Returns what a file's rows must have been measured by to be of use.

  Args:
    task: the task.
    num_steps: inner steps of a run.
    num_seeds: runs to compare on.
    num_final_batches: batches of the final measurement.
  """
  return protocol_of(
    task.name,
    definition(task),
    num_steps,
    list(range(num_seeds)),
    num_final_batches,
  )


def protocol_of(
  name: str,
  defined: Any,
  num_steps: int,
  seeds: list[int],
  num_final_batches: int = NUM_FINAL_BATCHES,
) -> dict[str, Any]:
  """Returns the same for a task that is known by name and definition only.

  Args:
    name: of the task.
    defined: its definition.
    num_steps: inner steps of a run.
    seeds: numbers of the runs to compare on.
    num_final_batches: batches of the final measurement.
  """
  return {
    "kind": _KIND,
    "format": run_rows.FORMAT,
    "task": name,
    "definition": defined,
    "num_steps": num_steps,
    "seeds": seeds,
    "tuning_seed": TUNING_SEED,
    "reference_steps": BEYOND * num_steps,
    "num_final_batches": num_final_batches,
    "smoothing": smoothing.FRACTION,
  }


def differing(
  header: Mapping[str, Any], wanted: Mapping[str, Any]
) -> list[str]:
  """Returns what differs from a protocol.

  A file may have more seeds, and more steps of the reference.

  Args:
    header: of a file.
    wanted: what `protocol` returns.
  """

  def differs(name: str, value: Any) -> bool:
    if name == "seeds":
      return not set(value) <= set(header.get(name) or ())
    if name == "reference_steps":
      return (header.get(name) or 0) < value
    return header.get(name) != value

  return [name for name, value in wanted.items() if differs(name, value)]


def fingerprint(baseline: Baseline) -> list[Any]:
  """Returns what a baseline's rows must have been measured with."""
  return [baseline_candidate(baseline).fingerprint, list(baseline.rates)]
