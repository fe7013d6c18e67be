"""Rows of made-up suites, some damaged: what is left out, and what is told."""

import pytest
import suite_rows

from meta_train.evaluation import row_standings, scores
from meta_train.evaluation.row_checks import whole_rows
from meta_train.evaluation.sweep_standings import sweeps_in


def _rows():
  """Returns rows that are whole; those of Adam are one group."""
  ours = suite_rows.candidate_rows("one", "flt", 2.0)
  adam = suite_rows.adam_rows("one")
  for group in (ours, adam):
    for row in group:
      row["group_size"] = len(group)
  for row in adam[:-1]:
    if row["learning_rate"] != 0.1:
      row["curve"] = []
  return [*ours, *adam]


def test_whole_rows_are_left_as_they_are():
  rows = _rows()
  assert whole_rows(rows) == (rows, [])


@pytest.mark.parametrize(
  ("changes", "says"),
  [
    ({"curve": []}, "a curve that is not as long as the run"),
    ({"setting": "x5"}, "a setting that is none"),
    ({"setting": {"sweep": "horizon"}}, "a setting that is none"),
    ({"setting": {"sweep": "horizon", "value": ["x5"]}}, "a setting"),
    ({"role": "lerned"}, "an unknown role, lerned"),
    ({"parameters": "many"}, "a size that is no number"),
    ({"last_loss": "low"}, "no last_loss"),
    ({"num_steps": 100, "curve_every": 2}, "100 steps, where most rows have"),
    ({"num_steps": 199}, "199 steps, where most rows have 200"),
    ({"curve_every": 5, "curve": [1.0] * 40}, "5 steps to a point"),
  ],
)
def test_a_row_that_does_not_fit_is_left_out_and_told(changes, says):
  rows = _rows()
  rows[1] = {**rows[1], **changes}
  whole, (said,) = whole_rows(rows)
  assert whole == [rows[0], *rows[2:]]
  assert said.startswith("one: 1 row of flt left out: ") and says in said
  assert row_standings.of_rows(whole).num_steps == suite_rows.N
  assert sweeps_in(whole) == ([], [])


@pytest.mark.parametrize("field", ["task", "optimizer"])
@pytest.mark.parametrize("name", [7, ["one"], None])
def test_a_name_that_is_none_is_told(field, name):
  rows = _rows()
  rows[1] = {**rows[1], field: name}
  whole, (said,) = whole_rows(rows)
  assert len(whole) == len(rows) - 1 and str(name) in said
  assert f"{field} that is no name" in said


@pytest.mark.parametrize("field", ["first_loss", "last_loss"])
def test_rows_of_an_older_form_are_no_diverged_runs(field):
  rows = _rows()
  for row in rows:
    row.pop(field)
  whole, said = whole_rows(rows)
  assert [row["role"] for row in whole] == ["envelope"]
  assert said == [
    f"one: {count} rows of {name} left out: no {field}, as in an older form; "
    "evaluate it again."
    for name, count in (("flt", 5), ("adam", 15))
  ]


def test_runs_that_have_no_settings_need_no_last_loss():
  rows = _rows()[:5]
  for row in rows:
    del row["setting"], row["last_loss"]
  assert whole_rows(rows) == (rows, [])


def test_a_baselines_row_without_the_curve_of_its_rate_is_left_out():
  rows = _rows()
  best = [row for row in rows if row["learning_rate"] == 0.1]
  best[1]["curve"] = []
  whole, (said,) = whole_rows(rows)
  assert said.startswith("one: 1 row of adam left out: no curve, where others")
  found = row_standings.of_rows(whole)
  assert found.runs["one"]["adam"].seeds == (0, 2, 3, 4)
  assert scores.score(found, "flt", "adam")


def test_an_envelope_without_points_is_left_out():
  rows = _rows()
  rows[-1]["curve"] = []
  whole, (said,) = whole_rows(rows)
  assert whole == rows[:-1] and "adam left out: no curve." in said


def test_lost_rows_of_a_baseline_are_told():
  rows = [row for row in _rows() if row["learning_rate"] != 0.1]
  whole, (said,) = whole_rows(rows)
  assert whole == rows
  assert said == (
    "one: 11 of 16 rows of adam are there, so that its best learning rate may "
    "be lost; evaluate it again."
  )


def test_rows_that_are_there_twice_fill_no_gap():
  rows = _rows()
  _, said = whole_rows([*rows[1:], rows[1]])
  assert "one: 4 of 5 rows of flt are there; evaluate it again." in said
