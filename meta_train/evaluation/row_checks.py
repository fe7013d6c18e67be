"""Rows that are damaged, odd, lost or there twice, found before their use.

A row of a run must have a final training loss (null where it diverged) and a
curve that is as long as its steps say; of a baseline only those at its best
rate have curves. Rows of one setting are as long as most of them, and there is
one for each seed; of several the last counts. What is left out is told, and so
are groups that have fewer rows than they were written with.

Names: `whole_rows`.
"""

import collections
import json
from collections.abc import Iterable, Mapping
from typing import Any

from meta_train.rows import Row

CANDIDATE_ROLES = ("learned", "untrained", "user")
BASELINE_ROLES = ("baseline", "tuning", "envelope")


def whole_rows(rows: Iterable[Row]) -> tuple[list[Row], list[str]]:
  """Returns the rows that can be used.

  Args:
    rows: rows of an evaluation, with the fields that its reader requires.

  Returns:
    The rows, in order, and a sentence for each optimizer on each task that has
    lost some.
  """
  rows = list(rows)
  lost: dict[tuple[str, str, str], int] = {}

  def lose(row: Row, flaw: str) -> None:
    where = (str(row["task"]), str(row["optimizer"]), flaw)
    lost[where] = lost.get(where, 0) + 1

  def without(kept: Iterable[Row], flaws: Iterable[str]) -> list[Row]:
    fine = []
    for row, flaw in zip(kept, flaws, strict=True):
      if flaw:
        lose(row, flaw)
      else:
        fine.append(row)
    return fine

  once: dict[str, Row] = {}
  for row in without(rows, map(_flaw, rows)):
    name = _name(row)
    if name in once:
      lose(once.pop(name), "the same run is there again")
    once[name] = row
  whole = list(once.values())
  for flaws in (_other_lengths, _bare_among_curves):
    whole = without(whole, flaws(whole))
  return whole, [
    f"{task}: {count} {'row' if count == 1 else 'rows'} of {optimizer} left "
    f"out: {flaw}."
    for (task, optimizer, flaw), count in lost.items()
  ] + _incomplete(rows)


def _name(row: Row) -> str:
  """Returns what tells runs apart."""
  fields = ("setting", "task", "definition", "optimizer", "role") + (
    "learning_rate",
    "seed",
  )
  return _text(row, *fields)


def _text(row: Row, *fields: str) -> str:
  return json.dumps([row.get(field) for field in fields], sort_keys=True)


def _flaw(row: Row) -> str:
  """Says what is wrong with a row; empty if nothing is."""
  flaw = _unnamed(row)
  if flaw:
    return flaw
  steps, every, curve = row["num_steps"], row["curve_every"], row["curve"]
  if not (_is_count(steps) and _is_count(every)):
    return "no number of steps"
  if not (isinstance(curve, list) and all(map(_is_loss, curve))):
    return "a curve that is none"
  if row["role"] == "envelope":
    return "" if curve else "no curve"
  may_be_bare = row["role"] in BASELINE_ROLES and not curve
  if len(curve) != -(-steps // every) and not may_be_bare:
    return "a curve that is not as long as the run"
  if not isinstance(row["seed"], int):
    return "no seed"
  rate = row["learning_rate"]
  if row["role"] in BASELINE_ROLES and not (rate and _is_loss(rate)):
    return "no learning rate"
  return _unmeasured(row)


def _unnamed(row: Row) -> str:
  """Says what is wrong with the fields that tell what a row is of."""
  if not isinstance(row["task"], str):
    return "a task that is no name"
  if not isinstance(row["optimizer"], str):
    return "an optimizer that is no name"
  if row["role"] not in (*CANDIDATE_ROLES, *BASELINE_ROLES):
    return f"an unknown role, {row['role']}"
  setting = row.get("setting")
  if setting is not None and not (
    isinstance(setting, Mapping)
    and all(isinstance(setting.get(x), str) for x in ("sweep", "value"))
  ):
    return "a setting that is none"
  costs = [row.get(field) for field in ("parameters", "state_bytes")]
  if not all(cost is None or isinstance(cost, int) for cost in costs):
    return "a size that is no number"
  return ""


def _unmeasured(row: Row) -> str:
  """Says which losses of a run are missing."""
  final = row["final"]
  if not isinstance(final, Mapping) or not all(
    map(_is_measured, final.values())
  ):
    return "no final losses"
  if "loss" not in final.get("train", {}):
    return "no final training loss"
  # There are settings for as long as there are these.
  if "setting" in row:
    for field in ("first_loss", "last_loss"):
      if field not in row or not _is_loss(row[field]):
        return f"no {field}, as in an older form; evaluate it again"
  return ""


def _other_lengths(rows: Iterable[Row]) -> list[str]:
  """Says which rows are not as long as most of their setting."""
  rows = list(rows)
  lengths: dict[str, collections.Counter[tuple[int, int]]] = {}
  for row in rows:
    counter = lengths.setdefault(_text(row, "setting"), collections.Counter())
    counter[row["num_steps"], row["curve_every"]] += 1
  most = {each: found.most_common(1)[0][0] for each, found in lengths.items()}

  def flaw(row: Row) -> str:
    steps, every = most[_text(row, "setting")]
    if row["num_steps"] != steps:
      return f"{row['num_steps']} steps, where most rows have {steps}"
    if row["curve_every"] != every:
      return (
        f"{row['curve_every']} steps to a point of the curve, where most rows "
        f"have {every}"
      )
    return ""

  return list(map(flaw, rows))


def _bare_among_curves(rows: Iterable[Row]) -> list[str]:
  """Says which rows of baselines lack the curve that others at the rate have.

  Those of rates that are not the best have none.
  """
  rows = list(rows)

  def rate(row: Row) -> str:
    fields = ("setting", "task", "definition", "optimizer", "learning_rate")
    return _text(row, *fields)

  with_curves = {
    rate(row) for row in rows if row["role"] == "baseline" and row["curve"]
  }
  return [
    "no curve, where others at its learning rate have one"
    if row["role"] == "baseline"
    and not row["curve"]
    and rate(row) in with_curves
    else ""
    for row in rows
  ]


def _incomplete(rows: Iterable[Row]) -> list[str]:
  """Says which groups have fewer rows than they were written with."""
  groups: dict[str, dict[str, Row]] = {}
  for row in rows:
    groups.setdefault(_text(row, "group"), {})[_name(row)] = row
  sentences = []
  for group in groups.values():
    first = next(iter(group.values()))
    size = first.get("group_size")
    if isinstance(size, int) and len(group) < size:
      tuned = first["role"] in BASELINE_ROLES
      sentences.append(
        f"{first['task']}: {len(group)} of {size} rows of "
        f"{first['optimizer']} are there"
        + (", so that its best learning rate may be lost" if tuned else "")
        + "; evaluate it again."
      )
  return list(dict.fromkeys(sentences))


def _is_measured(value: Any) -> bool:
  return isinstance(value, Mapping) and all(map(_is_loss, value.values()))


def _is_loss(value: Any) -> bool:
  return value is None or isinstance(value, int | float)


def _is_count(value: Any) -> bool:
  return isinstance(value, int) and value > 0
