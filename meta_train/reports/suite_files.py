"""An evaluation's folder, read, and what it lacks.

Idea: what is missing, damaged or refused is told, never dropped without a word.
Tasks without rows of baselines get the shipped ones, if they fit.

Names: `read_folder`, `SuiteFiles`.
"""

import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import flt_lopt
from meta_train.evaluation import (
  baseline_results,
  evaluate,
  row_standings,
  sweep_standings,
)
from meta_train.evaluation import overhead as costs
from meta_train.evaluation.candidates import weights_candidate
from meta_train.evaluation.evaluation_folder import ABOUT, OVERHEAD
from meta_train.evaluation.row_checks import whole_rows
from meta_train.evaluation.standings import Standings
from meta_train.evaluation.sweep_standings import Sweep
from meta_train.reports import sweep_tables
from meta_train.rows import Row, read_json, read_rows


class SuiteFiles(NamedTuple):
  """What an evaluation's folder holds.

  Attributes:
    path: the folder.
    about: what was evaluated.
    found: the results of the plain evaluation.
    sweeps: the results of sweeps.
    overhead: times per step.
    kernels: optimizer -> learned weights over timesteps.
    problems: a sentence for each thing that is missing.
  """

  path: pathlib.Path
  about: Mapping[str, Any]
  found: Standings
  sweeps: list[Sweep]
  overhead: list[Row]
  kernels: Mapping[str, Mapping[str, Any]]
  problems: list[str]


def read_folder(folder: str | os.PathLike) -> SuiteFiles:
  """Reads an evaluation's folder.

  Args:
    folder: the folder.

  Returns:
    Its content, with a sentence for each thing that is missing.
  """
  path = pathlib.Path(folder)
  about, problems = read_json(path / ABOUT)
  about = about or {}
  rows = read_rows(path / evaluate.FILE_NAME, required=row_standings.REQUIRED)
  whole, damaged = whole_rows(rows.rows)
  whole, of_others = row_standings.of_newest_weights(whole)
  plain, outdated = row_standings.of_newest_definition(
    row for row in whole if row["setting"] is None
  )
  # An evaluation that wanted no baselines says that they are {}.
  shipped, refused = baseline_results.beside(plain, about.get("baselines"))
  plain += shipped
  num_seeds = about.get("num_seeds")
  sweeps, sweep_gaps = sweep_standings.sweeps_in(whole, num_seeds=num_seeds)
  found, gaps = row_standings.standings(plain, num_seeds=num_seeds)
  if sweeps and not plain:
    gaps = []  # A folder of sweeps alone is whole.
  unlike = _unlike_shipped(whole)
  gaps = [*of_others, *unlike, *outdated, *refused, *gaps, *sweep_gaps]
  for sweep in sweeps:
    gaps += sweep_tables.left_out(sweep)
  overhead = read_rows(path / OVERHEAD, required=costs.REQUIRED)
  kernels = {}
  for file in sorted(path.glob("kernels-*.json")):
    document, _ = read_json(file, required=("lags", "kernels"))
    if document is None:
      problems = [*problems, f"{file.name} is damaged and was left out."]
    else:
      kernels[file.stem.removeprefix("kernels-")] = document
  if not (path / OVERHEAD).exists():  # What was asked for is told below.
    overhead = overhead._replace(problems=[])
  lacking = [
    *_lacking(about, found, sweeps),
    *_lacking_beside(about, overhead.rows, kernels),
  ]
  return SuiteFiles(
    path=path,
    about=about,
    found=found,
    sweeps=sweeps,
    overhead=overhead.rows,
    kernels=kernels,
    problems=[
      *problems,
      *rows.problems,
      *damaged,
      *lacking,
      *gaps,
      *overhead.problems,
      *about.get("problems", ()),
    ],
  )


def _unlike_shipped(rows: Iterable[Row]) -> list[str]:
  """Names optimizers that are other weights than those shipped by the name."""
  measured = {
    row["optimizer"]: row["fingerprint"]
    for row in rows
    if row["role"] == "learned" and "fingerprint" in row
  }
  return [
    f"{name} is not what ships under that name today, but other weights or "
    "another version; evaluate it again."
    for name in flt_lopt.list_pretrained()
    if name in measured
    and measured[name] != weights_candidate(name).fingerprint
  ]


def _lacking(
  about: Mapping[str, Any], found: Standings, sweeps: Iterable[Sweep]
) -> list[str]:
  """Says what was to be evaluated and has no rows at all."""
  settings = {
    (sweep.name, value): there
    for sweep in sweeps
    for value, there in sweep.settings.items()
  }
  everything = [found, *settings.values()]
  optimizers = {name for each in everything for name in each.optimizers}
  swept = {task for each in settings.values() for task in each.tasks}
  baselines = [
    n for n in about.get("baselines", ()) if n not in found.baselines
  ]
  missing = [
    *(task for task in about.get("tasks", ()) if task not in found.tasks),
    *(each for each in about.get("optimizers", ()) if each not in optimizers),
    *(
      f"sweep of {name}, {value},"
      for name, values in about.get("sweeps", {}).items()
      for value in values
      if (name, value) not in settings
    ),
    *(
      f"{task} in sweeps"
      for task in about.get("sweep_tasks", ())
      if task not in swept
    ),
  ]
  sentences = [
    f"{each} was to be evaluated and has no rows." for each in missing
  ]
  if baselines:
    sentences.append(
      f"no rows are there of the baselines {', '.join(baselines)}."
    )
  return sentences


def _lacking_beside(
  about: Mapping[str, Any],
  overhead: Iterable[Row],
  kernels: Mapping[str, Mapping[str, Any]],
) -> list[str]:
  """Says which costs and kernels were to be there and are not."""
  measured = {(row["task"], row["optimizer"]) for row in overhead}
  sentences = []
  for task, names in about.get("overhead", {}).items():
    missing = [name for name in names if (task, name) not in measured]
    if missing:
      sentences.append(
        f"{task}: what a step costs was not measured with "
        f"{', '.join(missing)}; evaluate again."
      )
  return sentences + [
    f"the learned kernels of {name} are missing; evaluate it again."
    for name in about.get("kernels", ())
    if name not in kernels
  ]
