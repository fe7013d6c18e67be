"""Rows of an evaluation, put together into standings.

Idea: rows become one `Runs` for each optimizer on each task: of a baseline
those at its best learning rate. What is missing from the rows is told in a
sentence, and so is what was measured on another definition of a task than its
newest rows, which is left out.

Names: `standings`, `of_newest_definition`, `of_newest_weights`, `of_rows`,
`REQUIRED`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from meta_train.evaluation.baseline_runs import REFERENCE
from meta_train.evaluation.comparison import best_rate
from meta_train.evaluation.gaps import few_common, gaps
from meta_train.evaluation.measures import smoothing
from meta_train.evaluation.row_checks import CANDIDATE_ROLES
from meta_train.evaluation.standings import Envelope, Standings
from meta_train.evaluation.summary import make_runs
from meta_train.rows import Row

REQUIRED = ("task", "num_steps", "setting", "optimizer", "role") + (
  "learning_rate",
  "seed",
  "final",
  "curve_every",
  "curve",
)


def standings(
  rows: Iterable[Row], *, num_seeds: int | None = None
) -> tuple[Standings, list[str]]:
  """Puts rows of one setting together.

  Args:
    rows: rows as `meta_train.evaluation.evaluate` writes them.
    num_seeds: how many runs each optimizer should have on each task; `None`:
      as many as the one with most.

  Returns:
    The standings, and a sentence for each thing that is missing.
  """
  kept, problems = of_newest_definition(rows)
  result = of_rows(kept)
  return result, [*problems, *gaps(result, num_seeds), *few_common(result)]


def of_newest_definition(rows: Iterable[Row]) -> tuple[list[Row], list[str]]:
  """Leaves out what was measured on another definition of a task.

  New rows are written behind old ones, so that a task's last row is of the
  newest.

  Args:
    rows: rows of one setting.

  Returns:
    The others, and a sentence for each optimizer that lost rows of a task.
  """
  rows = list(rows)
  newest = {row["task"]: row.get("definition") for row in rows}
  kept: list[Row] = []
  dropped: dict[tuple[str, str], None] = {}
  for row in rows:
    if row.get("definition") == newest[row["task"]]:
      kept.append(row)
    else:
      dropped[row["task"], row["optimizer"]] = None
  problems = [
    f"{task}: rows of {name} are of another definition of the task than the "
    "newest rows and were left out; evaluate it again."
    for task, name in dropped
  ]
  return kept, problems


def of_newest_weights(rows: Iterable[Row]) -> tuple[list[Row], list[str]]:
  """Leaves out what was measured with another optimizer of the same name.

  As weights are, that were trained on and evaluated again on some tasks only.
  An optimizer's last row is of the newest. Rows that don't tell, such as those
  of shipped baselines, are kept.

  Args:
    rows: rows of all settings.

  Returns:
    The others, and a sentence for each optimizer that lost rows.
  """
  rows = list(rows)
  newest = {
    row["optimizer"]: row["fingerprint"] for row in rows if "fingerprint" in row
  }
  kept: list[Row] = []
  dropped: dict[str, set[str]] = {}
  for row in rows:
    name = row["optimizer"]
    if row.get("fingerprint", newest.get(name)) == newest.get(name):
      kept.append(row)
    else:
      dropped.setdefault(name, set()).add(row["task"])
  return kept, [
    f"rows of {name} on {', '.join(sorted(tasks))} are of other weights, or of "
    "another version, than its newest rows and were left out; evaluate it "
    "there again."
    for name, tasks in dropped.items()
  ]


def of_rows(rows: Iterable[Row]) -> Standings:
  """Puts rows of one setting, and of one definition of each task, together.

  Args:
    rows: the rows.
  """
  by_task: dict[str, dict[str, list[Row]]] = {}
  for row in rows:
    by_task.setdefault(row["task"], {}).setdefault(row["optimizer"], []).append(
      row
    )
  roles = {
    row["optimizer"]: row["role"]
    for optimizers in by_task.values()
    for group in optimizers.values()
    for row in group
    if row["role"] in (*CANDIDATE_ROLES, "baseline")
  }
  picked = {
    task: {
      optimizer: _best_rows(group)
      for optimizer, group in optimizers.items()
      if any(row["role"] in (*CANDIDATE_ROLES, "baseline") for row in group)
    }
    for task, optimizers in by_task.items()
  }
  return Standings(
    tasks=tuple(by_task),
    num_steps=max(
      (g["num_steps"] for o in by_task.values() for r in o.values() for g in r),
      default=0,
    ),
    candidates=tuple(n for n, r in roles.items() if r in CANDIDATE_ROLES),
    baselines=tuple(n for n, r in roles.items() if r == "baseline"),
    runs={
      task: {name: make_runs(rows) for name, rows in optimizers.items()}
      for task, optimizers in picked.items()
    },
    last={
      task: {name: _last(rows) for name, rows in optimizers.items()}
      for task, optimizers in picked.items()
    },
    first={
      task: {name: _first(rows) for name, rows in optimizers.items()}
      for task, optimizers in picked.items()
    },
    held_out={
      task: {
        name: losses
        for name in picked[task]
        if (losses := _held_out(optimizers[name]))
      }
      for task, optimizers in by_task.items()
    },
    envelopes={
      task: envelope
      for task, groups in by_task.items()
      if (envelope := _envelope(groups.get(REFERENCE, ()))) is not None
    },
    at_edge=frozenset(
      (task, name)
      for task, groups in by_task.items()
      for name, group in groups.items()
      if _is_at_edge(group, picked[task].get(name, ()))
    ),
    state_bytes=_field(picked, "state_bytes"),
    parameters={
      task: max(found.values())
      for task, found in _field(picked, "parameters").items()
      if found
    },
  )


def _runs_of(group: Sequence[Row], role: str) -> list[Row]:
  return [row for row in group if row["role"] == role]


def _best_rows(group: Sequence[Row]) -> list[Row]:
  """Returns the rows of a candidate, or of a baseline's best rate.

  Curves are stored for the rate that was best over all seeds; it stays the
  one where fewer are compared on.
  """
  baseline = _runs_of(group, "baseline")
  if not baseline:
    return [row for row in group if row["role"] in CANDIDATE_ROLES]
  with_curves = [row for row in baseline if row["curve"]]
  best = _best_rate(with_curves or baseline, "train")
  return [row for row in baseline if row["learning_rate"] == best]


def _best_rate(rows: Sequence[Row], split: str) -> float:
  losses: dict[float, list[float]] = {}
  for row in rows:
    losses.setdefault(row["learning_rate"], []).append(_final(row, split))
  return best_rate({rate: np.asarray(each) for rate, each in losses.items()})


def _final(row: Row, split: str) -> float:
  loss = row["final"][split]["loss"]
  return np.inf if loss is None else loss


def _held_out(group: Sequence[Row]) -> dict[int, float]:
  """Returns held-out losses of a candidate, or of a baseline's best rate."""
  rows = [row for row in group if "loss" in row["final"].get("valid", {})]
  baseline = _runs_of(rows, "baseline")
  if baseline:
    best = _best_rate(baseline, "valid")
    rows = [row for row in baseline if row["learning_rate"] == best]
  return {
    row["seed"]: _final(row, "valid")
    for row in rows
    if row["role"] in (*CANDIDATE_ROLES, "baseline")
  }


def _is_at_edge(group: Sequence[Row], picked: Sequence[Row]) -> bool:
  rates = {
    row["learning_rate"] for row in group if row["learning_rate"] is not None
  }
  if len(rates) < 3 or not picked:
    return False
  return picked[0]["learning_rate"] in (min(rates), max(rates))


def _by_seed(rows: Sequence[Row]) -> list[Row]:
  return sorted(rows, key=lambda row: row["seed"])


def _last(rows: Sequence[Row]) -> Float[np.ndarray, "seeds"]:
  return _numbers(
    None if row.get("diverged") else row.get("last_loss")
    for row in _by_seed(rows)
  )


def _first(rows: Sequence[Row]) -> Float[np.ndarray, "seeds"]:
  """Returns what the runs began with.

  One batch may be an easy one, so the first block of the curve counts where it
  is higher, but not where it has blown up already.
  """
  rows = _by_seed(rows)
  first = _numbers(row.get("first_loss") for row in rows)
  block = np.asarray(
    [_numbers(row["curve"][:1])[0] if row["curve"] else -np.inf for row in rows]
  )
  highest = first[np.isfinite(first)].max(initial=-np.inf)
  if np.isfinite(highest):
    block = np.minimum(block, highest + abs(highest))
  return np.maximum(first, block)


def _numbers(
  values: Iterable[float | None],
) -> Float[np.ndarray, "values"]:
  return np.asarray([np.inf if x is None else x for x in values], float)


def _envelope(group: Sequence[Row]) -> Envelope | None:
  for row in group:
    if row["role"] == "envelope":
      values = [np.inf if x is None else x for x in row["curve"]]
      # Rounding to five digits may not make it rise.
      return Envelope(
        smoothing.monotone(np.asarray(values)),
        row["curve_every"],
        frozenset(row["seeds"]) if "seeds" in row else None,
      )
  return None


def _field(picked: Mapping[str, Mapping[str, Sequence[Row]]], name: str) -> Any:
  return {
    task: {
      optimizer: rows[0][name]
      for optimizer, rows in groups.items()
      if rows and rows[0].get(name) is not None
    }
    for task, groups in picked.items()
  }
