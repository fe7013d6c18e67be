"""The better of both Adams on each task, from rows of known answers."""

import numpy as np
import suite_rows

from meta_train.evaluation import baselines, row_standings, scores
from meta_train.evaluation.best_adam import (
  ADAMS,
  BEST_ADAM,
  num_adams,
  with_best_adam,
)
from meta_train.reports import suite_tables


def _rows(task, name, train, valid, *, role="baseline", rates=(1.0,)):
  """Returns rows of a grid whose best rate ends at these losses."""
  made = []
  for i, rate in enumerate(rates):
    for seed in range(5):
      row = suite_rows.row(task, name, role, rate, seed, suite_rows.curve(0.05))
      row["final"] = {
        split: {"loss": loss + i}
        for split, loss in (("train", train), ("valid", valid))
      }
      made.append(row)
  return made


def _found():
  made = []
  # Constant rates are better on the first task, but not by held-out loss.
  for task, ours, adam, cosine in (
    ("one", (2.0, 2.0), (1.0, 3.0), (4.0, 1.0)),
    ("two", (2.0, 2.0), (5.0, 1.0), (3.0, 4.0)),
    ("alone", (2.0, 2.0), (9.0, 9.0), None),
  ):
    made += _rows(task, "flt", *ours, role="learned", rates=(None,))
    made += _rows(task, "adam", *adam, rates=(0.01, 0.1, 1.0))
    if cosine:
      made += _rows(task, "adam_cosine", *cosine, rates=(0.01,))
  return row_standings.of_rows(made)


def test_the_lower_mean_is_taken_on_each_task_for_each_loss():
  found = with_best_adam(_found())
  assert found.baselines == (BEST_ADAM, *ADAMS)
  ends = {
    task: there[BEST_ADAM].losses.tolist()
    for task, there in found.runs.items()
    if BEST_ADAM in there
  }
  assert ends == {"one": [1.0] * 5, "two": [3.0] * 5}
  held_out = {
    task: set(there[BEST_ADAM].values())
    for task, there in found.held_out.items()
    if BEST_ADAM in there
  }
  assert held_out == {"one": {1.0}, "two": {1.0}}
  # Adam's best rate is its lowest one; the cosine has a single one.
  assert ("one", BEST_ADAM) in found.at_edge
  assert ("two", BEST_ADAM) not in found.at_edge


def test_only_tasks_with_both_count():
  found = _found()
  score = scores.score(with_best_adam(found), "flt", BEST_ADAM)
  assert score.counts == (1, 0, 1) and score.won.value == 0.5
  assert score.won_held_out.value == 0.0 and score.num_held_out == 2
  assert score.num_at_edge == 1
  # More is won against each alone.
  assert scores.score(found, "flt", "adam").counts == (2, 0, 1)
  assert scores.score(found, "flt", "adam_cosine").counts == (2, 0, 0)


def test_it_is_a_line_of_the_table_of_baselines_and_of_no_ranking():
  found = _found()
  table = suite_tables.against_baselines(found)
  cells = {row[1]: dict(zip(table.header, row)) for row in table.rows}
  assert cells[BEST_ADAM]["Won / tied / lost"] == "1 / 0 / 1"
  assert cells[BEST_ADAM]["At edge"] == "1 of 2"
  assert cells["adam"]["At edge"] == "3 of 3"
  assert "best of 28" in table.note
  for table in (suite_tables.overview(found), suite_tables.wins(found)):
    assert BEST_ADAM not in {row[0] for row in table.rows}


def test_a_diverged_run_is_worse_and_results_without_both_stay_as_they_are():
  rows = _rows("one", "adam", 1.0, 1.0) + _rows("one", "adam_cosine", 2.0, 2.0)
  rows[0]["final"]["train"]["loss"] = None
  found = with_best_adam(row_standings.of_rows(rows))
  np.testing.assert_array_equal(found.runs["one"][BEST_ADAM].losses, [2.0] * 5)
  assert set(found.held_out["one"][BEST_ADAM].values()) == {1.0}
  alone = row_standings.of_rows(_rows("one", "adam", 1.0, 1.0))
  assert with_best_adam(alone) is alone


def test_there_are_28_of_them():
  assert num_adams() == 28
  assert set(ADAMS) <= set(baselines.list_baselines())
