"""The best of all Adams on each task, as a baseline of its own.

Idea: whoever tunes Adam may choose the schedule too. So on each task that has
runs of Adam at constant rates and of Adam with warm-up and cosine, the better
of both is what there is to beat: with the grids of
`meta_train.evaluation.baselines` the best of 28 tuned runs.

Names: `BEST_ADAM`, `ADAMS`, `with_best_adam`, `num_adams`.
"""

import dataclasses
from typing import Any

import numpy as np

from meta_train.evaluation.baseline_runs import REFERENCE
from meta_train.evaluation.baselines import get_baseline
from meta_train.evaluation.measures import paired
from meta_train.evaluation.standings import Standings

BEST_ADAM = "best Adam"
#: What it is the better one of.
ADAMS = (REFERENCE, "adam_cosine")


def num_adams() -> int:
  """Returns how many runs the stated grids of both have together."""
  return sum(len(get_baseline(name).rates) for name in ADAMS)


def with_best_adam(found: Standings) -> Standings:
  """Returns results with the better of both Adams as their first baseline.

  It is the one with the lower mean final training loss and, for held-out
  losses, with the lower mean of those, each at its best rate.

  Args:
    found: all results; without both Adams they stay as they are.
  """
  if not set(ADAMS) <= set(found.baselines):
    return found
  best = {
    task: _better(*(there[name].losses for name in ADAMS))
    for task, there in found.runs.items()
    if set(ADAMS) <= set(there)
  }
  held_out = {
    task: _better(*(np.asarray([*there[name].values()]) for name in ADAMS))
    for task, there in found.held_out.items()
    if set(ADAMS) <= set(there)
  }
  runs = {
    task: {
      BEST_ADAM: dataclasses.replace(there[best[task]], optimizer=BEST_ADAM)
    }
    for task, there in found.runs.items()
    if task in best
  }

  def picked(results: Any, names: dict[str, str]) -> Any:
    return {t: {BEST_ADAM: results[t][name]} for t, name in names.items()}

  better = dataclasses.replace(
    found,
    runs=runs,
    last=picked(found.last, best),
    first=picked(found.first, best),
    held_out=picked(found.held_out, held_out),
  )
  edges = {(t, BEST_ADAM) for t, n in best.items() if (t, n) in found.at_edge}
  return dataclasses.replace(
    found.with_optimizer(BEST_ADAM, better),
    baselines=(BEST_ADAM, *found.baselines),
    at_edge=found.at_edge | edges,
  )


def _better(constant: np.ndarray, cosine: np.ndarray) -> str:
  """Returns whose mean is lower; constant rates where they are equal."""
  return ADAMS[1] if paired.is_better(cosine, constant) == 1.0 else ADAMS[0]
