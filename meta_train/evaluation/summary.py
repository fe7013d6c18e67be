"""What evaluation rows say: tuned baselines and paired comparisons.

Idea: rows are grouped by task, optimizer and learning rate; each baseline is
tuned to the rate with the best mean final training loss; and the learned
optimizer is compared with it on the seeds that both have. Whatever is missing
from the rows is told in a sentence.

Names: `summarize`, `TaskResults`, `Runs`, `make_runs`, `compare_runs`,
`headline`.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from meta_train.evaluation.comparison import Comparison, best_rate, compare
from meta_train.evaluation.measures import paired
from meta_train.rows import Row

REQUIRED = (
  "group",
  "task",
  "num_steps",
  "optimizer",
  "role",
  "learning_rate",
  "seed",
  "final",
  "curve_every",
  "curve",
)


@dataclasses.dataclass(frozen=True)
class Runs:
  """The runs of one optimizer, at one learning rate, on one task.

  Attributes:
    optimizer: its name.
    role: "learned", "untrained" or "baseline".
    learning_rate: that of a baseline; `None` where nothing is tuned.
    seeds: numbers of the runs, ascending.
    final: split -> measure -> values, one for each seed; `inf` for the
      losses of a run that diverged.
    curves: training losses, averaged over `every` steps to a point.
    every: inner steps to a point of the curves.
  """

  optimizer: str
  role: str
  learning_rate: float | None
  seeds: tuple[int, ...]
  final: Mapping[str, Mapping[str, Float[np.ndarray, "seeds"]]]
  curves: Float[np.ndarray, "seeds points"]
  every: int

  @property
  def losses(self) -> Float[np.ndarray, "seeds"]:
    """Final training losses."""
    return self.final["train"]["loss"]

  @property
  def num_diverged(self) -> int:
    """How many runs diverged."""
    return int(np.isinf(self.losses).sum())

  @property
  def label(self) -> str:
    """Name and learning rate, for legends and tables."""
    if self.learning_rate is None:
      return self.optimizer
    return f"{self.optimizer}, rate {self.learning_rate:g}"

  def mean(self, split: str, measure: str) -> float | None:
    """Returns the mean over seeds; `None` if it was not measured."""
    values = self.final.get(split, {}).get(measure)
    return None if values is None else float(np.mean(values))


@dataclasses.dataclass(frozen=True)
class TaskResults:
  """All runs on one task.

  Attributes:
    task: name of the task.
    num_steps: inner steps of each run.
    learned: the meta-trained optimizer, or `None`.
    untrained: the same before meta-training, or `None`.
    baselines: name -> learning rate -> runs.
    tuned: name -> runs at the best learning rate.
  """

  task: str
  num_steps: int
  learned: Runs | None
  untrained: Runs | None
  baselines: Mapping[str, Mapping[float, Runs]]
  tuned: Mapping[str, Runs]

  def all_runs(self) -> list[Runs]:
    """Returns the runs of all optimizers and rates."""
    single = [runs for runs in (self.learned, self.untrained) if runs]
    return single + [
      runs for grid in self.baselines.values() for runs in grid.values()
    ]

  def at_edge(self, baseline: str) -> bool:
    """Whether the best rate is the grid's first or last: tune further."""
    rates = sorted(self.baselines[baseline])
    return self.tuned[baseline].learning_rate in (rates[0], rates[-1])


def _number(value: Any) -> float:
  return np.inf if value is None else float(value)


def make_runs(rows: list[Row]) -> Runs:
  """Puts the rows of one optimizer, at one rate, on one task together.

  Args:
    rows: one for each seed, at least one, in any order.
  """
  rows = sorted(rows, key=lambda row: row["seed"])
  first = rows[0]
  # Measures that some row lacks can't be compared over seeds.
  final = {
    split: {
      measure: np.asarray(
        [_number(row["final"][split][measure]) for row in rows]
      )
      for measure in measures
      if all(measure in row["final"].get(split, {}) for row in rows)
    }
    for split, measures in first["final"].items()
  }
  return Runs(
    optimizer=first["optimizer"],
    role=first["role"],
    learning_rate=first["learning_rate"],
    seeds=tuple(row["seed"] for row in rows),
    final=final,
    curves=np.asarray([[_number(x) for x in row["curve"]] for row in rows]),
    every=first["curve_every"],
  )


def summarize(
  rows: Iterable[Row],
) -> tuple[list[TaskResults], list[str]]:
  """Groups rows by task and tunes the baselines.

  Args:
    rows: rows as `meta_train.evaluation.evaluate.evaluate` writes them.

  Returns:
    One result per task, in the order of the rows, and a sentence for each
    thing that is missing.
  """
  by_task: dict[str, dict[tuple, dict[int, Row]]] = {}
  for row in rows:
    if row["role"] not in ("learned", "untrained", "baseline"):
      continue
    variant = (row["optimizer"], row["role"], row["learning_rate"])
    variants = by_task.setdefault(row["task"], {})
    variants.setdefault(variant, {})[row["seed"]] = row
  results, problems = [], []
  for variants in by_task.values():
    groups = [list(by_seed.values()) for by_seed in variants.values()]
    result = _make_result(groups)
    results.append(result)
    problems += _gaps(result)
  return results, problems


def _make_result(groups: list[list[Row]]) -> TaskResults:
  """Makes the result of one task from its rows, a group for each variant."""
  baselines: dict[str, dict[float, Runs]] = {}
  others: dict[str, Runs] = {}
  for runs in map(make_runs, groups):
    if runs.learning_rate is None:
      others[runs.role] = runs
    else:
      baselines.setdefault(runs.optimizer, {})[runs.learning_rate] = runs
  return TaskResults(
    task=groups[0][0]["task"],
    num_steps=groups[0][0]["num_steps"],
    learned=others.get("learned"),
    untrained=others.get("untrained"),
    baselines=baselines,
    tuned={
      name: grid[best_rate({rate: grid[rate].losses for rate in grid})]
      for name, grid in baselines.items()
    },
  )


def _gaps(result: TaskResults) -> list[str]:
  """Says what a complete evaluation would have and this one lacks."""
  problems = [
    f"{result.task}: there are no runs of {what}."
    for what, there in (
      ("the learned optimizer", result.learned),
      ("the untrained optimizer", result.untrained),
      ("a baseline", result.baselines),
    )
    if not there
  ]
  everything = {seed for runs in result.all_runs() for seed in runs.seeds}
  return problems + [
    f"{result.task}: {runs.label} lacks {len(everything) - len(runs.seeds)} "
    f"of {len(everything)} runs; comparisons use the seeds that are there."
    for runs in result.all_runs()
    if len(runs.seeds) < len(everything)
  ]


def compare_runs(
  candidate: Runs,
  reference: Runs,
  *,
  split: str = "train",
  measure: str = "loss",
) -> Comparison | None:
  """Compares final losses on the seeds that both optimizers ran.

  Args:
    candidate: runs of the optimizer in question.
    reference: runs of the one it is measured against.
    split: split that the final parameters were measured on.
    measure: what was measured; lower is better.

  Returns:
    The comparison; `None` if no seed has both.
  """
  pairs = _pairs(candidate, reference, split, measure)
  return None if pairs is None else compare(*pairs)


def _pairs(
  candidate: Runs, reference: Runs, split: str = "train", measure: str = "loss"
) -> tuple[Float[np.ndarray, "runs"], Float[np.ndarray, "runs"]] | None:
  """Returns what `compare_runs` compares."""
  common = sorted(set(candidate.seeds) & set(reference.seeds))
  ours, theirs = (
    runs.final.get(split, {}).get(measure) for runs in (candidate, reference)
  )
  if ours is None or theirs is None or not common:
    return None
  return (
    ours[[candidate.seeds.index(seed) for seed in common]],
    theirs[[reference.seeds.index(seed) for seed in common]],
  )


def headline(
  result: TaskResults, baseline: str, *, where: str = "the held-out task"
) -> str:
  """Says in one sentence how the learned optimizer fared.

  Args:
    result: the runs on one task.
    baseline: name of the baseline to compare with.
    where: what the task is.

  Returns:
    A sentence without markup.
  """
  reference = result.tuned.get(baseline)
  if result.learned is None or reference is None:
    return f"{result.task}: there is nothing to compare yet."
  pairs = _pairs(result.learned, reference)
  if pairs is None:
    return f"{result.task}: the runs share no seed."
  found = compare(*pairs)
  verdict, interval = _verdict(found, *pairs)
  name = result.learned.optimizer
  return (
    f"On {where} {result.task}, {name} {verdict} {baseline} tuned "
    f"over {len(result.baselines[baseline])} learning rates: mean final "
    f"training loss {found.candidate_mean:.3g} against "
    f"{found.reference_mean:.3g} after {result.num_steps} steps "
    f"({interval}), lower on {found.wins} of {found.num_pairs} seeds."
  )


def _verdict(
  found: Comparison,
  losses: Float[np.ndarray, "runs"],
  others: Float[np.ndarray, "runs"],
) -> tuple[str, str]:
  """Returns who is ahead, and what says so."""
  low, high = found.mean_ratio_low, found.mean_ratio_high
  if found.num_pairs == 1:
    why = (
      f"loss ratio {found.mean_ratio:.3g}, of one seed, so without an interval"
    )
    if found.ties:
      return "is level with", why
    return "ends lower than" if found.wins else "ends higher than", why
  if np.isnan([found.mean_ratio, low, high]).any():
    below, above = (
      paired.sign_flip_p(*pair) for pair in ((losses, others), (others, losses))
    )
    why = f"no ratio of negative losses; paired p = {min(below, above):.2g}"
    is_lower, is_higher = below < paired.SURE, above < paired.SURE
  else:
    why = (
      f"loss ratio {found.mean_ratio:.3g}, {100 * found.confidence:.0f} % "
      f"interval {low:.3g} to {high:.3g}"
    )
    is_lower, is_higher = low > 1, high < 1
  if is_lower:
    return "beats", why
  return ("loses to" if is_higher else "is level with"), why
