"""Tuned baselines that ship with the package, beside rows of candidates.

Idea: the baselines of a task are the same for every optimizer that is
evaluated on it, and cost more than all of those; so they are computed once. A
task's file is refused when the definition of the task, or of a baseline, is no
longer the same; and rows whose initial losses are not those of the runs that
they are compared with are refused too, which finds changed data. Another
version of optax is told. `python -m meta_train.make_baselines` makes the
files, and `meta_train.evaluation.baseline_files` reads and writes them.

Names: `read`, `beside`, `mark`, `is_shipped`, `check_paired`,
`of_other_versions`.
"""

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import optax

from meta_train.evaluation import baseline_files
from meta_train.evaluation.baseline_files import REMAKE
from meta_train.evaluation.baseline_runs import TUNING_SEED
from meta_train.evaluation.baselines import (
  Baseline,
  get_baseline,
  list_baselines,
)
from meta_train.evaluation.row_checks import BASELINE_ROLES
from meta_train.rows import Row

#: First word of the groups of rows that are not computed anew.
SHIPPED = "shipped"
#: Initial losses of equal runs agree to this on all machines.
_TOLERANCE = 1e-3


def read(
  task: Any,
  baselines: Iterable[Baseline],
  *,
  num_steps: int,
  num_seeds: int,
  folder: str | os.PathLike | None = None,
) -> tuple[dict[str, list[Row]], list[str]]:
  """Returns the shipped rows of a task that can be used.

  Args:
    task: the task.
    baselines: those that are wanted.
    num_steps: inner steps of a run.
    num_seeds: runs to compare on; more than there are is a refusal.
    folder: of the files; `None`: that of the package.

  Returns:
    Baseline name -> rows, and a sentence for whatever is refused or missing.
  """
  results = baseline_files.load(baseline_files.path_of(task, folder))
  if results is None:
    return {}, [
      f"{task.name}: there are no shipped baselines, or none that can be read; "
      f"compute them with --compute_baselines, or once for all with {REMAKE}"
    ]
  wanted = baseline_files.protocol(
    task, num_steps=num_steps, num_seeds=num_seeds
  )
  differing = baseline_files.differing(results.header, wanted)
  if differing:
    return {}, [_of_another(task.name, differing)]
  found, problems = _unchanged(results, baselines, range(num_seeds))
  missing = [
    each.name
    for each in baselines
    if each.name not in results.header.get("baselines", {})
  ]
  if missing:
    problems.append(
      f"{task.name}: there are no shipped results of {', '.join(missing)}; "
      f"compute them with --compute_baselines, or once for all with {REMAKE}"
    )
  return found, problems


def _of_another(task: str, differing: Sequence[str]) -> str:
  return (
    f"{task}: the shipped baselines have another {' and '.join(differing)} "
    "and were refused; compute them with --compute_baselines, or make them "
    f"anew with {REMAKE}"
  )


def _unchanged(
  results: baseline_files.ResultsFile,
  baselines: Iterable[Baseline],
  seeds: Iterable[int],
) -> tuple[dict[str, list[Row]], list[str]]:
  """Returns the rows of baselines that are as they were measured.

  Args:
    results: a task's file.
    baselines: those that are wanted.
    seeds: numbers of the runs to compare on.

  Returns:
    Baseline name -> rows, and a sentence on those that are another.
  """
  measured = results.header.get("baselines", {})
  numbers = {None, TUNING_SEED, *seeds}
  found: dict[str, list[Row]] = {}
  changed = []
  for baseline in baselines:
    if baseline.name not in measured:
      continue
    if measured[baseline.name] != baseline_files.fingerprint(baseline):
      changed.append(baseline.name)
      continue
    found[baseline.name] = [
      # An envelope is of all runs, however many are compared on.
      {"seeds": results.header["seeds"], **row}
      if row["role"] == "envelope"
      else row
      for row in results.rows
      if row["optimizer"] == baseline.name and row["seed"] in numbers
    ]
  problems = [
    f"{results.header['task']}: the shipped results of {', '.join(changed)} "
    "are of another definition or another grid and were refused; make them "
    f"anew with {REMAKE}"
  ]
  return found, problems if changed else []


def of_other_versions(
  header: Mapping[str, Any], names: Iterable[str]
) -> list[str]:
  """Returns a sentence for baselines that another optax computed.

  Args:
    header: of a task's file.
    names: of the baselines that are used.
  """
  versions: dict[str, list[str]] = {}
  for name in names:
    provenance = header.get("provenance", {}).get(name, {})
    version = provenance.get("versions", {}).get("optax")
    if version not in (None, optax.__version__):
      versions.setdefault(version, []).append(name)
  return [
    f"{header['task']}: the shipped results of {', '.join(each)} are of optax "
    f"{version}, and {optax.__version__} is installed; where its optimizers "
    f"differ, make them anew with {REMAKE}"
    for version, each in versions.items()
  ]


def beside(
  rows: Sequence[Row],
  wanted: Iterable[str] | None = None,
  folder: str | os.PathLike | None = None,
  *,
  registered: Iterable[Baseline] | None = None,
) -> tuple[list[Row], list[str]]:
  """Returns the shipped rows that belong beside rows of candidates.

  Args:
    rows: rows of a plain evaluation; a baseline gets no more where it has some.
    wanted: names of the baselines to put there; `None`: all.
    folder: of the files; `None`: that of the package.
    registered: the baselines as they are today; `None`: those of
      `meta_train.evaluation.baselines`.

  Returns:
    Rows of the tasks with the same definition, steps and initial losses, by
    today's protocol and of today's baselines; and a sentence for each file,
    and each baseline in it, that is refused.
  """
  folder = pathlib.Path(baseline_files.FOLDER if folder is None else folder)
  if registered is None:
    registered = [get_baseline(name) for name in list_baselines()]
  names = {each.name for each in registered} if wanted is None else set(wanted)
  today = [each for each in registered if each.name in names]
  found: list[Row] = []
  problems: list[str] = []
  for name in dict.fromkeys(row["task"] for row in rows):
    mine = [row for row in rows if row["task"] == name]
    there = {row["optimizer"] for row in mine if row["role"] == "baseline"}
    lacking = [each for each in today if each.name not in there]
    results = baseline_files.load(folder / f"{name}.jsonl.gz")
    ours = [row for row in mine if row["role"] not in BASELINE_ROLES]
    if results is None or not lacking or not ours:
      continue
    differing = _misfits(results.header, ours)
    if differing:
      problems.append(_of_another(name, differing))
      continue
    kept, refused = _unchanged(results, lacking, {row["seed"] for row in ours})
    kept, unpaired = check_paired(ours, kept)
    problems += [*refused, *unpaired, *of_other_versions(results.header, kept)]
    for optimizer, group in kept.items():
      found += mark(group, optimizer, name)
  return found, problems


def _misfits(header: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
  """Returns what differs between a file and rows of candidates."""
  wanted = baseline_files.protocol_of(
    rows[0]["task"],
    rows[0].get("definition"),
    rows[0]["num_steps"],
    sorted({row["seed"] for row in rows}),
  )
  differing = baseline_files.differing(header, wanted)
  return differing + [
    field
    for field in ("format", "definition", "num_steps")
    if field not in differing
    and any(row.get(field) != wanted[field] for row in rows)
  ]


def mark(group: Sequence[Row], optimizer: str, task: str) -> list[Row]:
  """Returns shipped rows as those of a folder.

  Args:
    group: rows of a baseline on a task.
    optimizer: name of the baseline.
    task: name of the task.
  """
  fields = {
    "group": f"{SHIPPED} {optimizer} on {task}",
    "group_size": len(group),
    "setting": None,
  }
  return [{**row, **fields} for row in group]


def is_shipped(row: Row) -> bool:
  """Whether a folder's row was put there by `mark`."""
  return str(row.get("group", "")).startswith(f"{SHIPPED} ")


def check_paired(
  rows: Sequence[Row], shipped: dict[str, list[Row]]
) -> tuple[dict[str, list[Row]], list[str]]:
  """Refuses shipped rows whose runs did not start like those of a candidate.

  Args:
    rows: rows of candidates on the same task.
    shipped: baseline name -> rows.

  Returns:
    What is not refused, and a sentence for each baseline that is.
  """
  starts = {
    row["seed"]: row["first_loss"]
    for row in rows
    if row.get("first_loss") is not None
  }
  kept, problems = {}, []
  for name, group in shipped.items():
    pairs = [
      (starts[row["seed"]], row["first_loss"])
      for row in group
      if row["seed"] in starts and row.get("first_loss") is not None
    ]
    if all(np.isclose(*pair, rtol=_TOLERANCE, atol=1e-6) for pair in pairs):
      kept[name] = group
    else:
      problems.append(
        f"{group[0]['task']}: the shipped runs of {name} started from other "
        "losses than the ones of today, so the data or the model has changed; "
        f"they were refused; make them anew with {REMAKE}"
      )
  return kept, problems
