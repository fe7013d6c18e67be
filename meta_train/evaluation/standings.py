"""What each optimizer did on each task of a suite, tuned, side by side.

Idea: scores, tables and pictures of a suite are all made from one object.
`meta_train.evaluation.row_standings` makes it from rows, and
`meta_train.evaluation.gaps` says what it lacks.

Names: `Standings`, `Envelope`.
"""

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float

from meta_train.evaluation.summary import Runs


@dataclasses.dataclass(frozen=True)
class Envelope:
  """The lower envelope of the reference's grid on one task.

  Attributes:
    values: never rising; point i is after (i + 1) `every` steps.
    every: steps to a point.
    seeds: numbers of the runs that it is a mean over; `None`: not told.
  """

  values: Float[np.ndarray, "points"]
  every: int
  seeds: frozenset[int] | None = None


@dataclasses.dataclass(frozen=True)
class Standings:
  """The results of a suite.

  Attributes:
    tasks: names of the tasks.
    num_steps: inner steps of each run.
    candidates: names of the optimizers under evaluation.
    baselines: names of the hand-designed ones.
    runs: task -> optimizer -> its runs; of a baseline at its best rate.
    last: task -> optimizer -> last losses (see `measures.smoothing`); infinite
      where a run diverged, if only in the final measurement.
    first: task -> optimizer -> losses that the runs began with: before the
      first step, or the mean of the curve's first block where that is larger,
      but that at most twice as high as the highest of the former (for a
      negative loss b at most b + |b|); `inf` where they are not known.
    held_out: task -> optimizer -> seed -> final held-out loss; of a baseline at
      the rate of its grid that is best by held-out loss.
    envelopes: task -> envelope, where there is one.
    at_edge: pairs (task, baseline) whose best rate is at the grid's edge.
    state_bytes: task -> optimizer -> bytes of its state.
    parameters: task -> number of parameters.
  """

  tasks: tuple[str, ...]
  num_steps: int
  candidates: tuple[str, ...]
  baselines: tuple[str, ...]
  runs: Mapping[str, Mapping[str, Runs]]
  last: Mapping[str, Mapping[str, Float[np.ndarray, "seeds"]]]
  first: Mapping[str, Mapping[str, Float[np.ndarray, "seeds"]]]
  held_out: Mapping[str, Mapping[str, Mapping[int, float]]]
  envelopes: Mapping[str, Envelope]
  at_edge: frozenset[tuple[str, str]]
  state_bytes: Mapping[str, Mapping[str, int]]
  parameters: Mapping[str, int]

  @property
  def optimizers(self) -> tuple[str, ...]:
    """Candidates first, then baselines."""
    return (*self.candidates, *self.baselines)

  @property
  def common_tasks(self) -> list[str]:
    """Tasks that all optimizers have runs on, from a seed in common."""
    return [task for task in self.tasks if self.common_seeds(task)]

  def common_seeds(self, task: str) -> list[int]:
    """Returns the seeds that all optimizers have runs from.

    Args:
      task: name of the task.
    """
    seeds = [
      set(runs.seeds if (runs := self.runs[task].get(name)) else ())
      for name in self.optimizers
    ]
    return sorted(set.intersection(*seeds)) if seeds else []

  def has_held_out_data(self, task: str) -> bool:
    """Whether losses on held-out data are of other data than training losses.

    Where there is no data, as with test functions, they are the same in every
    run.

    Args:
      task: name of the task.
    """
    return any(
      not np.array_equal(runs.losses, runs.final["valid"]["loss"])
      for runs in self.runs[task].values()
      if "loss" in runs.final.get("valid", {})
    )

  def with_optimizer(self, name: str, source: "Standings") -> "Standings":
    """Returns these results with a baseline's runs from elsewhere."""

    def merged(ours, theirs):
      return {
        task: {**each, **{name: theirs[task][name]}}
        if name in theirs.get(task, {})
        else each
        for task, each in ours.items()
      }

    return dataclasses.replace(
      self,
      baselines=(*self.baselines, name),
      runs=merged(self.runs, source.runs),
      last=merged(self.last, source.last),
      first=merged(self.first, source.first),
      held_out=merged(self.held_out, source.held_out),
    )

  def only(self, tasks: Iterable[str]) -> "Standings":
    """Returns the results on some of the tasks, in their order here."""
    wanted = set(tasks)
    return dataclasses.replace(
      self, tasks=tuple(task for task in self.tasks if task in wanted)
    )
