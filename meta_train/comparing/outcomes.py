"""How each value of a setting fared: what its runs cost, and what they achieve.

A run is known by its folder, and its result by the evaluation's rows. A value
is compared with the reference on the tasks that all results of both have run
on, meta-seed by meta-seed and seed by seed: run k of both was meta-trained
from the same seed, and run s of the evaluation starts from the same parameters
and sees the same batches.

Main names: `Run`, `Outcome`, `Score`, `read_run`, `outcome`, `score`.
"""

import os
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

import flt_lopt
from meta_train.evaluation.measures import crossed, paired, ratios
from meta_train.evaluation.measures.aggregate import Estimate, iqm
from meta_train.evaluation.standings import Standings
from meta_train.rows import Row, read_rows
from meta_train.run import run_folder


class Run(NamedTuple):
  """A run of meta-training, as its folder tells; what it lacks is `None`.

  Attributes:
    name: of its folder.
    outer_steps: outer steps that its rows tell of.
    inner_steps: inner steps in these.
    seconds: median over rows of the wall seconds of an outer step.
    meta_parameters: numbers in theta.
    state_floats: floats of state per parameter of a matrix.
    validation: rows of validation.jsonl.
    result: which theta is the result.
  """

  name: str
  outer_steps: int
  inner_steps: int
  seconds: float | None
  meta_parameters: int | None
  state_floats: int | None
  validation: list[Row]
  result: str | None

  @property
  def final_score(self) -> float | None:
    """The last validation score."""
    return self.validation[-1]["score"] if self.validation else None


class Score(NamedTuple):
  """How a value fared against the reference.

  Attributes:
    loss_ratio: IQM of final-loss ratios, the reference's loss over the value's;
      `None` where no task has one.
    won: share of tasks won.
    tasks: how many tasks both have.
    without_ratio: tasks among them without a loss ratio.
    meta_seeds: how many pairs of results are compared.
  """

  loss_ratio: Estimate | None
  won: Estimate
  tasks: int
  without_ratio: int
  meta_seeds: int


class Outcome(NamedTuple):
  """A value of the setting.

  Attributes:
    value: the value.
    runs: its runs, by meta-seed.
    score: against the reference; `None` for that itself, and where nothing is
      evaluated yet.
  """

  value: str
  runs: tuple[Run, ...]
  score: Score | None


def read_run(folder: str | os.PathLike) -> tuple[Run, list[str]]:
  """Reads what a run's folder tells.

  Args:
    folder: it may lack anything.

  Returns:
    The run, and a sentence for each thing that is missing.
  """
  path = pathlib.Path(folder)
  needed = ("outer_step", "inner_steps", "inner_steps_per_s")
  metrics = read_rows(path / run_folder.METRICS, required=needed)
  scores = read_rows(
    path / run_folder.VALIDATION, required=("outer_step", "score")
  )
  if not (path / run_folder.VALIDATION).exists():  # Nobody asked for it.
    scores = scores._replace(problems=[])
  problems = [
    f"{path.name}: {x}" for x in (*metrics.problems, *scores.problems)
  ]
  meta_parameters = state_floats = result = None
  try:
    config, theta = flt_lopt.load(path / run_folder.WEIGHTS)
    result = flt_lopt.read_provenance(path / run_folder.WEIGHTS).get("result")
    meta_parameters = sum(np.size(leaf) for leaf in jax.tree.leaves(theta))
    state_floats = config.state_floats
  except flt_lopt.WeightsError:
    problems.append(f"{path.name}: the run has no result yet.")
  last = metrics.rows[-1] if metrics.rows else {}
  return Run(
    name=path.name,
    outer_steps=last.get("outer_step", 0),
    inner_steps=last.get("inner_steps", 0),
    seconds=_seconds(metrics.rows),
    meta_parameters=meta_parameters,
    state_floats=state_floats,
    validation=scores.rows,
    result=result,
  ), problems


def _seconds(rows: Sequence[Row]) -> float | None:
  """Returns the median wall seconds of an outer step."""
  # Rows tell inner steps per second of what this start took, whatever a start
  # before has done of the row's outer steps.
  found = [
    row["inner_steps"] / row["outer_step"] / row["inner_steps_per_s"]
    for row in rows
    if row["outer_step"] and row["inner_steps_per_s"]
  ]
  return statistics.median(found) if found else None


def outcome(
  found: Standings,
  value: str,
  runs: Mapping[str, Sequence[Run]],
  *,
  reference: str,
) -> Outcome:
  """Returns how a value fared.

  Args:
    found: the evaluation, whose optimizers have the names of runs.
    value: the value.
    runs: of all values.
    reference: the value it is compared with.
  """
  ours, theirs = runs[value], runs[reference]
  pairs = [(a.name, b.name) for a, b in zip(ours, theirs)]
  against = None if value == reference else score(found, pairs)
  return Outcome(value, tuple(ours), against)


def score(found: Standings, pairs: Sequence[tuple[str, str]]) -> Score | None:
  """Scores optimizers against others over all tasks that all of them have.

  Args:
    found: all results.
    pairs: an optimizer and what it is compared with, for each meta-seed.

  Returns:
    The score; `None` if there is no such task.
  """
  tasks = [losses for t in found.tasks if (losses := _losses(found, t, pairs))]
  stacked = [np.stack(each) for each in tasks]
  if not stacked:
    return None
  with_ratio = [x for x in stacked if not np.isnan(ratios.loss_ratio(*x)).any()]
  return Score(
    loss_ratio=crossed.bootstrap(with_ratio, _loss_ratio)
    if with_ratio
    else None,
    won=crossed.bootstrap(stacked, _share_won),
    tasks=len(stacked),
    without_ratio=len(stacked) - len(with_ratio),
    meta_seeds=len(pairs),
  )


def _loss_ratio(tasks: Sequence[np.ndarray]) -> Float[np.ndarray, "draws"]:
  each = [ratios.loss_ratio(ours, theirs) for ours, theirs in tasks]
  return iqm(np.concatenate(each, axis=-1))


def _share_won(tasks: Sequence[np.ndarray]) -> Float[np.ndarray, "draws"]:
  each = [paired.is_better(ours, theirs) for ours, theirs in tasks]
  return np.mean(each, axis=0)


def _losses(
  found: Standings, task: str, pairs: Sequence[tuple[str, str]]
) -> tuple[np.ndarray, np.ndarray] | None:
  """Returns final losses by meta-seed and seed; `None` if one has no runs."""
  there = found.runs[task]
  names = {name for pair in pairs for name in pair}
  if not names or not names <= set(there):
    return None
  common = sorted(set.intersection(*(set(there[n].seeds) for n in names)))
  if not common:
    return None

  def losses(name: str) -> np.ndarray:
    seeds = there[name].seeds
    return there[name].losses[[seeds.index(seed) for seed in common]]

  ours, theirs = zip(*((losses(a), losses(b)) for a, b in pairs))
  return np.stack(ours), np.stack(theirs)
