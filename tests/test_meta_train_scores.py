"""Standings and scores of made-up suites whose answers are known."""

import numpy as np
import pytest
import suite_rows

from meta_train import scores, standings, suite_tables

TASKS = ("one", "two", "three")


def _found(factor, *, name="flt", tasks=TASKS, extra=(), **options):
  rows = [
    each
    for task in tasks
    for each in (
      *suite_rows.candidate_rows(task, name, factor, **options),
      *suite_rows.adam_rows(task, **options),
    )
  ]
  return standings.standings([*rows, *extra])


def test_twice_the_speed_scores_two():
  found, problems = _found(2.0)
  assert problems == []
  score = scores.score(found, "flt", "adam")
  # Seeds differ from their mean by up to 4 %, about as much in time.
  assert score.speed_up.value == pytest.approx(2.0, rel=0.02)
  assert score.num_censored > 0  # Seed 0 is lower than the mean ever gets.
  assert score.speed_ratio.value == pytest.approx(2.0, rel=0.02)
  assert score.loss_ratio.value == pytest.approx(20.95 / 10.975, rel=1e-3)
  assert score.won == (1.0, 1.0, 1.0)
  assert (score.sure_wins, score.sure_losses, score.failures) == (3, 0, 0)


def test_identical_optimizers_tie():
  found, _ = _found(1.0)
  score = scores.score(found, "flt", "adam")
  assert found.runs["one"]["adam"].learning_rate == 0.1
  assert score.won.value == 0.5
  assert score.won.low <= 0.5 <= score.won.high
  assert score.loss_ratio == score.speed_ratio == (1.0, 1.0, 1.0)
  assert score.speed_up.low <= 1.0 <= score.speed_up.high
  assert score.speed_up.value == pytest.approx(1.0, rel=0.05)
  assert (score.sure_wins, score.sure_losses) == (0, 0)
  assert scores.average_ranks(found) == {"flt": 1.5, "adam": 1.5}


def test_never_reached_is_censored_and_not_a_number():
  found, _ = _found(20.0)
  score = scores.score(found, "flt", "adam")
  assert score.num_censored == score.num_speed_ups == 15
  assert score.is_speed_up_bound
  table = suite_tables.overview(found)
  (cell,) = (row[1] for row in table.rows if row[0] == "flt")
  assert cell.startswith("at least 2.00")
  (cell, *_) = (
    row[6] for row in suite_tables.by_task(found).rows if row[1] == "flt"
  )
  assert cell == "> 2"


def test_diverging_optimizer_fails_and_is_worst():
  found, _ = _found(np.inf)
  score = scores.score(found, "flt", "adam")
  assert score.failures == score.num_runs == 15
  assert score.speed_up.value == score.speed_ratio.value == 0.0
  assert score.loss_ratio.value == score.won.value == score.worst_ratio == 0.0
  assert score.sure_losses == 3
  assert scores.average_ranks(found) == {"flt": 2.0, "adam": 1.0}
  tasks, times = scores.times_to_target(found)
  assert len(tasks) == 3 and np.isinf(times[:, 0]).all()


def test_ending_above_the_start_is_a_failure_too():
  rows = suite_rows.candidate_rows("one", "flt", 0.001)
  for row in rows:
    row["final"]["train"]["loss"] = 5.0
  found, _ = standings.standings([*rows, *suite_rows.adam_rows("one")])
  assert scores.score(found, "flt", "adam").failures == 5


def test_negative_losses_have_speed_and_wins_but_no_ratio():
  found, _ = _found(1.5, shift=0.5)
  assert (found.runs["one"]["flt"].losses < 0).all()
  score = scores.score(found, "flt", "adam")
  assert score.loss_ratio is None and score.num_without_ratio == 3
  assert score.won.value == 1.0
  assert score.speed_ratio.value == pytest.approx(1.5, rel=0.02)
  assert score.speed_up.value == pytest.approx(1.5, rel=0.05)
  assert "none" in suite_tables.overview(found).rows[0]


def test_zero_and_nan_losses_are_told():
  rows = suite_rows.candidate_rows("one", "flt", 2.0)
  for row in rows:
    row["final"]["train"]["loss"] = 0.0
  found, _ = standings.standings([*rows, *suite_rows.adam_rows("one")])
  score = scores.score(found, "flt", "adam")
  assert score.loss_ratio.value == np.inf
  assert "infinite" in suite_tables.overview(found).rows[0][4]


def test_profile_finds_the_fastest():
  found, _ = _found(2.0)
  profile = scores.profile_of(found, np.asarray([1.0, 1.5, 3.0]))
  assert profile[:, 0].tolist() == [1.0, 1.0, 1.0]
  assert profile[:, 1].tolist() == [0.0, 0.0, 1.0]


def test_tuning_rows_choose_nothing_else():
  tuning = [
    suite_rows.row("one", "lion", "tuning", rate, 1000, suite_rows.curve(0.05))
    for rate in (0.1, 0.2, 0.3)
  ]
  best = [
    suite_rows.row(
      "one", "lion", "baseline", 0.3, seed, suite_rows.curve(0.05, seed=seed)
    )
    for seed in range(5)
  ]
  found, _ = _found(2.0, tasks=("one",), extra=[*tuning, *best])
  assert found.runs["one"]["lion"].seeds == (0, 1, 2, 3, 4)
  assert ("one", "lion") in found.at_edge
  assert ("one", "adam") in found.at_edge
  assert scores.score(found, "flt", "lion").speed_up is None


def test_missing_runs_are_told():
  found, problems = standings.standings(
    [
      *suite_rows.candidate_rows("one", "flt", 2.0)[:-1],
      *suite_rows.candidate_rows("two", "flt", 2.0),
      *suite_rows.adam_rows("one")[:-1],
    ],
    num_seeds=5,
  )
  text = " ".join(problems)
  assert "adam has no runs on 1 of 2 tasks: two." in text
  assert "one: flt lacks 1 of 5 runs" in text
  assert "no envelope on one, two" in text
  score = scores.score(found, "flt", "adam")
  assert len(score.tasks) == 1 and score.tasks[0].loss_ratio.size == 4
  assert standings.standings([])[1] == ["there are no results."]


def test_several_optimizers_stand_side_by_side():
  extra = [
    row
    for task in TASKS
    for row in suite_rows.candidate_rows(task, "slow", 0.5)
  ]
  found, _ = _found(2.0, extra=extra)
  assert found.candidates == ("flt", "slow")
  ups = {
    name: scores.score(found, name, "adam").speed_up.value
    for name in found.candidates
  }
  assert ups["slow"] == pytest.approx(0.5, rel=0.1)
  assert ups["flt"] > 1.9
  table = suite_tables.against_baselines(found)
  assert [row[:2] for row in table.rows] == [["flt", "adam"], ["slow", "adam"]]


def test_sweeps_are_put_together_by_setting():
  rows = []
  for value, factor in (("x1", 2.0), ("x5", 0.5)):
    setting = {"sweep": "horizon", "value": value}
    for row in (
      *suite_rows.candidate_rows("one", "flt", factor),
      *(suite_rows.adam_rows("one") if value == "x1" else ()),
    ):
      rows.append({**row, "setting": setting})
  (sweep,) = standings.sweeps_in(rows)
  assert list(sweep.settings) == ["x1", "x5"]
  # Adam is missing at x5: that of the first setting stands in.
  first, second = suite_tables.sweep_scores(sweep)["flt"]
  assert first.won.value == 1.0 and second.won.value == 0.0
  assert [row[1] for row in suite_tables.sweep_table(sweep).rows] == [
    "x1",
    "x5",
  ]


def test_tables_are_markdown_and_csv():
  found, _ = _found(2.0)
  table = suite_tables.overview(found)
  lines = suite_tables.markdown(table).splitlines()
  assert lines[2].count("|") == lines[4].count("|") == len(table.header) + 1
  text = suite_tables.csv_text(table)
  assert text.splitlines()[0].startswith("Optimizer,Speed-up")
  assert len(text.splitlines()) == 1 + len(table.rows)
