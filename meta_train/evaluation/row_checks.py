"""Rows that are damaged, or there twice, found before anything is made of them.

A row of a run must have a final training loss (null where it diverged) and a
curve that is as long as its steps say, or empty; and there is one for each
seed. Of several the last counts. What is left out is told.

Names: `whole_rows`.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from meta_train.rows import Row


def whole_rows(rows: Iterable[Row]) -> tuple[list[Row], list[str]]:
  """Returns the rows that can be used.

  Args:
    rows: rows of an evaluation, with the fields that its reader requires.

  Returns:
    The rows, in order, and a sentence for each optimizer on each task that has
    lost some.
  """
  kept: dict[str, Row] = {}
  lost: dict[tuple[str, str, str], int] = {}

  def lose(row: Row, flaw: str) -> None:
    where = (str(row["task"]), str(row["optimizer"]), flaw)
    lost[where] = lost.get(where, 0) + 1

  for row in rows:
    flaw = _flaw(row)
    if flaw:
      lose(row, flaw)
      continue
    name = _name(row)
    if name in kept:
      lose(kept.pop(name), "the same run is there again")
    kept[name] = row
  return list(kept.values()), [
    f"{task}: {count} {'row' if count == 1 else 'rows'} of {optimizer} left "
    f"out: {flaw}."
    for (task, optimizer, flaw), count in lost.items()
  ]


def _name(row: Row) -> str:
  """Returns what tells runs apart."""
  fields = ("setting", "task", "definition", "optimizer", "role") + (
    "learning_rate",
    "seed",
  )
  return json.dumps([row.get(field) for field in fields], sort_keys=True)


def _flaw(row: Row) -> str:
  """Says what is wrong with a row; empty if nothing is."""
  steps, every, curve = row["num_steps"], row["curve_every"], row["curve"]
  if not (_is_count(steps) and _is_count(every)):
    return "no number of steps"
  if not (isinstance(curve, list) and all(map(_is_loss, curve))):
    return "a curve that is none"
  if row["role"] == "envelope":
    return ""
  if curve and len(curve) != -(-steps // every):
    return "a curve that is not as long as the run"
  if not isinstance(row["seed"], int):
    return "no seed"
  if row["role"] in ("baseline", "tuning") and not row["learning_rate"]:
    return "no learning rate"
  final = row["final"]
  if not isinstance(final, Mapping) or not all(
    map(_is_measured, final.values())
  ):
    return "no final losses"
  return "" if "loss" in final.get("train", {}) else "no final training loss"


def _is_measured(value: Any) -> bool:
  return isinstance(value, Mapping) and all(map(_is_loss, value.values()))


def _is_loss(value: Any) -> bool:
  return value is None or isinstance(value, int | float)


def _is_count(value: Any) -> bool:
  return isinstance(value, int) and value > 0
