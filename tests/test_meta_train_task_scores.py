"""Runs that fail, by how they began, went on and ended."""

import numpy as np
import pytest
import suite_rows

from meta_train.evaluation import row_standings, scores, task_scores
from meta_train.reports import suite_tables


def test_ending_above_the_start_is_a_failure_too():
  rows = suite_rows.candidate_rows("one", "flt", 0.001)
  for row in rows:
    row["final"]["train"]["loss"] = 5.0
  found, _ = row_standings.standings([*rows, *suite_rows.adam_rows("one")])
  assert scores.score(found, "flt", "adam").failures == (5, 0)


def test_a_run_fails_by_its_own_first_loss():
  rows = suite_rows.candidate_rows("one", "flt", 0.001, spread=0.5)
  for row in rows:
    row["final"]["train"]["loss"] = 1.001 * row["first_loss"]
  rows[4]["final"]["train"]["loss"] = 0.9 * rows[4]["first_loss"]
  found, _ = row_standings.standings([*rows, *suite_rows.adam_rows("one")])
  # Seed 0 ends below where the others began, and seed 4 above.
  assert scores.score(found, "flt", "adam").failures == (4, 0)


def test_a_noisy_first_batch_is_no_failure():
  rows = suite_rows.candidate_rows("one", "flt", 0.001)
  for row in rows:
    row["first_loss"] = 0.5 * row["final"]["train"]["loss"]
  found, _ = row_standings.standings([*rows, *suite_rows.adam_rows("one")])
  assert scores.score(found, "flt", "adam").failures == (0, 0)


@pytest.mark.parametrize(
  ("shift", "point", "height", "blew_up"),
  [
    (0.0, 3, 2.2, 1),
    (0.0, 3, 1.8, 0),
    (0.0, 2, 2.2, 0),  # In the first twentieth.
    (2.0, 3, 0.1, 1),
    (2.0, 3, -0.1, 0),
  ],
)
def test_blowing_up_on_the_way_is_a_failure_too(shift, point, height, blew_up):
  rows = suite_rows.candidate_rows("one", "flt", 1.0, shift=shift)
  assert abs(rows[0]["first_loss"] + shift - 1.0) < 0.1
  rows[0]["curve"][point] = height
  found, _ = row_standings.standings([*rows, *suite_rows.adam_rows("one")])
  score = scores.score(found, "flt", "adam")
  assert score.failures == (0, blew_up)
  table = suite_tables.wins(found)
  cells = dict(zip(table.header, table.rows[0]))
  assert cells["Ended badly / blew up"] == f"0 / {blew_up} of 5"


def test_a_run_that_blows_up_at_once_did_not_begin_there():
  rows = suite_rows.candidate_rows("one", "flt", 1.0)
  for row in rows:
    row["curve"] = [3e6, *([1e3] * (len(row["curve"]) - 1))]
    row["final"]["train"]["loss"] = 1e3
  rows[0]["final"]["train"]["loss"] = 0.5  # It came back.
  found, _ = row_standings.standings([*rows, *suite_rows.adam_rows("one")])
  assert task_scores.failures(found, "one", "flt") == (4, 1)


def test_failures_count_where_there_is_nothing_to_compare_with():
  rows = [
    *suite_rows.candidate_rows("one", "flt", 1.0),
    *suite_rows.adam_rows("one"),
    *suite_rows.candidate_rows("two", "flt", np.inf),
  ]
  found, _ = row_standings.standings(rows)
  assert task_scores.all_failures(found, "flt") == ((5, 0), 10)
  assert task_scores.all_failures(found, "adam") == ((0, 0), 5)
