"""Scores of made-up suites whose answers are known."""

import csv

import numpy as np
import pytest
import scipy.stats
import suite_rows

from meta_train.evaluation import rankings, row_standings, scores
from meta_train.reports import suite_tables, table_cells, tables, task_tables


def test_twice_the_speed_scores_two():
  found, problems = suite_rows.standings(2.0)
  assert problems == []
  score = scores.score(found, "flt", "adam")
  assert score.speed_up.value == pytest.approx(2.0, rel=0.02)
  assert score.speed_up.low < score.speed_up.value <= score.speed_up.high
  assert score.num_speed_ups == 3
  assert score.speed_ratio.value == pytest.approx(2.0, rel=0.02)
  assert score.loss_ratio.value == pytest.approx(20.95 / 10.975, rel=1e-3)
  assert score.won == (1.0, 1.0, 1.0)
  assert (score.sure_wins, score.sure_losses) == (3, 0)
  assert score.failures == (0, 0)


def test_identical_optimizers_tie():
  found, _ = suite_rows.standings(1.0)
  score = scores.score(found, "flt", "adam")
  assert found.runs["one"]["adam"].learning_rate == 0.1
  assert score.won.value == 0.5
  assert score.won.low <= 0.5 <= score.won.high
  assert score.loss_ratio == score.speed_ratio == (1.0, 1.0, 1.0)
  assert score.speed_up.low <= 1.0 <= score.speed_up.high
  assert score.speed_up.value == pytest.approx(1.0, rel=0.01)
  assert score.num_censored == 0
  assert (score.sure_wins, score.sure_losses) == (0, 0)
  assert rankings.average_ranks(found) == {"flt": 1.5, "adam": 1.5}


@pytest.mark.parametrize("spread", [0.1, 0.5])
def test_seeds_at_different_levels_do_not_censor_an_identical_optimizer(spread):
  # The best seed ends far below all of the envelope, the worst far above.
  found, _ = suite_rows.standings(1.0001, spread=spread, noise=0.05)
  score = scores.score(found, "flt", "adam")
  assert score.speed_up.value == pytest.approx(1.0, rel=0.05)
  assert score.speed_up.low < 1.0 < score.speed_up.high
  assert score.num_censored == 0
  assert score.speed_up_at_most.value == score.speed_up.value
  (cell,) = (
    row[8] for row in task_tables.by_task(found).rows[:1] if row[1] == "flt"
  )
  assert float(cell) == pytest.approx(1.0, rel=0.05)


def test_a_task_says_how_it_went_and_what_an_optimizer_keeps():
  found, _ = suite_rows.standings(2.0)
  table = task_tables.by_task(found)
  lines = [dict(zip(table.header, row)) for row in table.rows]
  assert [line["Against adam"] for line in lines[:2]] == ["won, sure", "itself"]
  assert lines[0]["Loss ratio"] == "1.91" and lines[0]["Failed"] == "0 of 5"
  table = suite_tables.overview(found)
  for row in table.rows:
    assert dict(zip(table.header, row))["Bytes per parameter"] == "8.0"
  slower, _ = suite_rows.standings(0.5)
  row = task_tables.by_task(slower).rows[0]
  assert row[6] == "lost, sure"


def test_the_speed_up_over_tasks_is_less_sure_than_over_seeds():
  rows = [
    row
    for task, factor in zip(suite_rows.TASKS, (1.2, 1.5, 1.9))
    for row in (
      *suite_rows.candidate_rows(task, "flt", factor),
      *suite_rows.adam_rows(task),
    )
  ]
  found, _ = row_standings.standings(rows)
  score = scores.score(found, "flt", "adam")
  assert score.speed_up_over_tasks.value == score.speed_up.value
  assert score.speed_up_over_tasks.low == pytest.approx(1.2, rel=0.05)
  assert score.speed_up_over_tasks.high == pytest.approx(1.9, rel=0.05)
  assert score.speed_up_over_tasks.low < score.speed_up.low
  alone, _ = suite_rows.standings(1.5, tasks=("one",))
  alone = scores.score(alone, "flt", "adam")
  assert not alone.speed_up_over_tasks.has_interval


@pytest.mark.parametrize(("factor", "censored"), [(1.95, 0), (2.1, 3)])
def test_twice_the_speed_with_seeds_at_different_levels(factor, censored):
  found, _ = suite_rows.standings(factor, spread=0.5, noise=0.02)
  score = scores.score(found, "flt", "adam")
  assert score.speed_up.value == pytest.approx(min(factor, 2.0), rel=0.02)
  assert score.num_censored == censored
  assert np.isinf(score.speed_up_at_most.value) == bool(censored)


def test_where_nothing_moves_rounding_is_no_failure():
  rows = _final("one", "flt", [1.0] * 5)
  rows += _final("one", "adam", [1.0] * 5, "baseline", 0.1)
  for row in rows:
    row["curve"] = [1.0 for _ in row["curve"]]
    row["first_loss"] = row["last_loss"] = 1.0
    row["final"]["train"]["loss"] = 1.0 + 1e-7
  found, _ = row_standings.standings(rows)
  assert scores.score(found, "flt", "adam").failures == (0, 0)


def test_who_ends_above_where_it_began_has_no_speed():
  rows = suite_rows.candidate_rows("one", "flt", 1.0)
  for row in rows:
    row["final"]["train"]["loss"] = 2.0 * row["first_loss"]
  found, _ = row_standings.standings([*rows, *suite_rows.adam_rows("one")])
  score = scores.score(found, "flt", "adam")
  assert score.failures == (5, 0) and score.speed_ratio.value == 0.0


def test_ranks_are_of_common_seeds():
  """One that lacks the run from a hard seed is not the better for it."""
  made = suite_rows.adam_rows("one")
  for row in made:
    if row["seed"] == 4 and row["role"] == "baseline":
      row["final"]["train"]["loss"] += 1.0
  best = [row for row in made if row["learning_rate"] == 0.1]
  for row in best:
    worse = 1.1 * row["final"]["train"]["loss"]
    if row["seed"] != 4:
      ours = {**row, "optimizer": "flt", "role": "learned"}
      ours["final"] = {**row["final"], "train": {"loss": worse}}
      made.append({**ours, "learning_rate": None})
  found, problems = row_standings.standings(made)
  assert scores.score(found, "flt", "adam").won.value == 0.0
  assert rankings.average_ranks(found) == {"flt": 2.0, "adam": 1.0}
  assert any("speed-ups therefore depend" in each for each in problems)


def test_what_censored_tasks_leave_open_of_a_mean_is_told():
  """A task that was censored at 2 may belong above others at 3."""

  def cell(*factors):
    made = []
    for number, factor in enumerate(factors):
      made += suite_rows.candidate_rows(f"t{number}", "flt", factor)
      made += suite_rows.adam_rows(f"t{number}")
    found, _ = row_standings.standings(made)
    score = scores.score(found, "flt", "adam")
    return score, str(
      table_cells.interval(
        score.speed_up_over_tasks, at_most=score.speed_up_over_tasks_at_most
      )
    )

  score, text = cell(1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 5.0, 5.0)
  assert score.num_censored == 2
  assert score.speed_up_at_most.value == score.speed_up.value
  # Draws in which the two are often are no more than bounds.
  assert " to more than " in text and not text.startswith("at least")
  score, text = cell(1.1, 1.2, 5.0, 5.0)
  assert text.startswith("at least") and "(from " in text
  _, text = cell(1.1, 1.2, 1.3, 1.4)
  assert "more than" not in text and "at least" not in text


def test_one_diverged_seed_has_no_speed_up_if_only_in_the_last_measurement():
  rows = suite_rows.candidate_rows("one", "flt", 1.5)
  for split in rows[2]["final"].values():
    split["loss"] = None
  rows[2]["diverged"] = True
  assert rows[2]["last_loss"] is not None
  found, _ = row_standings.standings([*rows, *suite_rows.adam_rows("one")])
  score = scores.score(found, "flt", "adam")
  assert score.speed_up.value == score.speed_up.low == 0.0
  assert score.tasks[0].speed_ratio[2] == 0.0
  assert score.failures == (1, 0)


def test_a_draw_without_the_diverged_seeds_is_compared_like_the_whole():
  rows = suite_rows.candidate_rows("one", "flt", 1.0)
  rows[0]["final"]["train"]["loss"] = None
  adam = [r for r in suite_rows.adam_rows("one") if r["learning_rate"] == 0.1]
  for row in adam[:3]:
    row["final"]["train"]["loss"] = None
  found, _ = row_standings.standings([*rows, *adam])
  won = scores.score(found, "flt", "adam").won
  # Both means are infinite in most draws; fewer diverged runs win there too.
  assert won.value == won.high == 1.0


def test_never_reached_is_censored_and_not_a_number():
  found, _ = suite_rows.standings(20.0)
  score = scores.score(found, "flt", "adam")
  assert score.num_censored == score.num_speed_ups == 3
  assert np.isinf(score.speed_up_at_most.value)
  table = suite_tables.overview(found)
  (cell,) = (row[2] for row in table.rows if row[0] == "flt")
  assert cell == "at least 2.00 (from 2.00)"
  (cell, *_) = (
    row[8] for row in task_tables.by_task(found).rows if row[1] == "flt"
  )
  assert cell == "> 2"


def test_diverging_optimizer_fails_and_is_worst():
  found, _ = suite_rows.standings(np.inf)
  score = scores.score(found, "flt", "adam")
  assert score.failures.total == score.num_runs == 15
  assert score.speed_up.value == score.speed_ratio.value == 0.0
  assert score.loss_ratio.value == score.won.value == score.worst_ratio == 0.0
  assert score.sure_losses == 3
  assert rankings.average_ranks(found) == {"flt": 2.0, "adam": 1.0}
  tasks, times = rankings.times_to_target(found)
  assert len(tasks) == 3 and np.isinf(times[:, 0]).all()


def test_held_out_loss_is_counted_at_its_own_best_rate():
  ours = suite_rows.candidate_rows("one", "flt", 2.0)
  adam = suite_rows.adam_rows("one")
  for row in adam:
    if row["learning_rate"] == 0.01:  # Not the best by training loss.
      row["final"]["valid"]["loss"] = 1e-3
      row["curve"] = []
  found, _ = row_standings.standings([*ours, *adam])
  assert found.runs["one"]["adam"].learning_rate == 0.1
  assert found.held_out["one"]["adam"] == dict.fromkeys(range(5), 1e-3)
  score = scores.score(found, "flt", "adam")
  assert score.won == (1.0, 1.0, 1.0)
  assert score.won_held_out == (0.0, 0.0, 0.0) and score.num_held_out == 1
  for table in (
    suite_tables.wins(found),
    suite_tables.against_baselines(found),
  ):
    column = table.header.index("Won on held-out data")
    assert table.rows[0][column] == "0 % (0 to 0)"


def test_candidates_are_compared_with_the_first_without_any_baseline():
  first, same, half = (
    suite_rows.candidate_rows("one", name, 2.0)
    for name in ("ours", "same", "half")
  )
  for row in half:
    for split in row["final"].values():
      split["loss"] /= 2.0
  found, _ = row_standings.standings([*first, *same, *half])
  table = suite_tables.against_first(found)
  lines = {row[0]: dict(zip(table.header, row)) for row in table.rows}
  assert table.title == "Against ours" and set(lines) == {"same", "half"}
  assert lines["half"]["Loss ratio"] == "2.00 (2.00 to 2.00)"
  assert lines["half"]["Won / tied / lost"] == "1 / 0 / 0"
  assert lines["half"]["Sure wins / losses"] == "1 / 0"
  assert lines["same"]["Loss ratio"] == "1.00 (1.00 to 1.00)"
  assert lines["same"]["Tasks won"].startswith("50 %")
  alone, _ = row_standings.standings(first)
  assert suite_tables.against_first(alone).rows == []


def test_tasks_without_data_are_no_wins_on_held_out_data():
  rows = [
    row
    for task, factor in (("one", 0.5), ("two", 2.0))
    for row in (
      *suite_rows.candidate_rows(task, "flt", factor),
      *suite_rows.adam_rows(task),
    )
  ]
  for row in rows:
    if row["task"] == "two" and row["final"]:
      row["final"]["valid"]["loss"] = row["final"]["train"]["loss"]
  found, _ = row_standings.standings(rows)
  score = scores.score(found, "flt", "adam")
  assert score.won.value == 0.5
  assert score.won_held_out.value == 0.0 and score.num_held_out == 1


def test_runs_without_a_held_out_loss_have_no_share_of_wins_by_it():
  ours = suite_rows.candidate_rows("one", "flt", 2.0)
  for row in ours:
    del row["final"]["valid"]
  found, _ = row_standings.standings([*ours, *suite_rows.adam_rows("one")])
  score = scores.score(found, "flt", "adam")
  assert score.won_held_out is None and score.num_held_out == 0


def test_each_line_says_on_how_many_tasks_it_is():
  extra = suite_rows.candidate_rows("one", "slow", 0.5)
  found, problems = suite_rows.standings(2.0, extra=extra)
  table = suite_tables.overview(found)
  assert [row[:2] for row in table.rows] == [
    ["flt", "3"],
    ["slow", "1"],
    ["adam", "3"],
  ]
  assert "Rank on 1 task" in table.header
  assert "ranks and the performance profile are of 1 of 3 tasks" in problems[-1]


def _final(task, name, losses, role="learned", rate=None):
  """Returns rows that end at these losses, one for each seed."""
  rows = [
    suite_rows.row(task, name, role, rate, seed, suite_rows.curve(0.05))
    for seed, _ in enumerate(losses)
  ]
  for row, loss in zip(rows, losses):
    row["final"] = {"train": {"loss": loss}}
  return rows


def _against_adam(outcomes, num_seeds=5):
  """Returns the score of losses, task by task, where Adam ends at 1."""
  rows = []
  for i, loss in enumerate(outcomes):
    rows += _final(f"task {i}", "flt", [loss] * num_seeds)
    rows += _final(f"task {i}", "adam", [1.0] * num_seeds, "baseline", 0.1)
  found, _ = row_standings.standings(rows)
  return scores.score(found, "flt", "adam"), found


def test_wins_ties_and_losses_are_counted_and_ties_are_halves_of_a_share():
  score, found = _against_adam([0.5, 0.5, 0.5, 1.0 + 1e-7, 2.0, None])
  assert score.counts == (3, 1, 2)
  assert score.won == (3.5 / 6,) * 3
  table = suite_tables.wins(found)
  row = dict(zip(table.header, table.rows[0]))
  assert row["Won / tied / lost"] == "3 / 1 / 2"
  assert row["Sure wins / losses"] == "3 / 2"
  assert "0.2 of 6" in table.note


def test_an_interval_over_tasks_too_is_that_of_redrawn_tasks():
  score, _ = _against_adam([0.5] * 12 + [2.0] * 8)
  assert score.won == (0.6, 0.6, 0.6)
  # Of a binomial of 20 tasks, of which a draw of 1,000 may miss by one.
  low, high = scipy.stats.binom(20, 0.6).ppf([0.025, 0.975]) / 20
  assert score.won_over_tasks.value == 0.6
  assert score.won_over_tasks.low == pytest.approx(low, abs=0.051)
  assert score.won_over_tasks.high == pytest.approx(high, abs=0.051)
  ratio = score.loss_ratio_over_tasks
  assert ratio.value == score.loss_ratio.value
  assert ratio.low < score.loss_ratio.low <= score.loss_ratio.high < ratio.high


def test_too_few_seeds_are_told_and_one_has_no_interval():
  score, found = _against_adam([0.5, 0.5, 2.0], num_seeds=4)
  assert score.false_sure == score.sure_wins == 0
  table = suite_tables.wins(found)
  column = table.header.index("Sure wins / losses")
  assert table.rows[0][column] == "too few seeds"
  score, _ = _against_adam([0.5, 0.5, 2.0], num_seeds=1)
  assert table_cells.share(score.won) == "67 %"
  assert table_cells.interval(score.loss_ratio) == "1.50"
  more = score.loss_ratio._replace(value=np.inf)
  assert table_cells.interval(score.loss_ratio, at_most=more) == "at least 1.50"
  assert score.won_over_tasks.has_interval


def test_the_worst_task_tells_diverged_from_a_loss_of_zero():
  def worst(zero, diverged):
    rows = [*_final("mild", "flt", [1.5] * 5)]
    rows += _final("mild", "adam", [1.0] * 5, "baseline", 0.1)
    rows += _final("zero", "flt", [zero] * 5)
    rows += _final("zero", "adam", [0.0] * 5, "baseline", 0.1)
    rows += _final("last", "flt", [1.0] * 4 + [diverged])
    rows += _final("last", "adam", [1.0] * 5, "baseline", 0.1)
    found, _ = row_standings.standings(rows)
    return suite_tables.wins(found).rows[0][-1]

  assert worst(0.0, 1.0) == "0.667, mild"
  assert worst(1e-4, 1.0) == "adam at 0, zero"
  assert worst(1e-4, None) == "diverged, last"


def test_negative_losses_have_speed_and_wins_but_no_ratio():
  found, _ = suite_rows.standings(1.5, shift=0.5)
  assert (found.runs["one"]["flt"].losses < 0).all()
  score = scores.score(found, "flt", "adam")
  assert score.loss_ratio is None and score.num_without_ratio == 3
  assert score.won.value == 1.0
  assert score.speed_ratio.value == pytest.approx(1.5, rel=0.02)
  assert score.speed_up.value == pytest.approx(1.5, rel=0.05)
  table = suite_tables.overview(found)
  assert "none" in table.rows[0]
  assert "no loss ratio: flt on 3 of 3 tasks." in table.note
  assert suite_tables.wins(found).rows[0][-1] == "none"


def test_lines_without_a_ratio_are_named_together_or_by_the_others():
  def note(*with_ratio):
    rows = []
    for name in ("a", "b", "c", "d"):
      low = 0.5 if name in with_ratio else -0.5
      rows += _final("one", name, [0.5] * 5) + _final("two", name, [low] * 5)
    for task in ("one", "two"):
      rows += _final(task, "adam", [1.0] * 5, "baseline", 0.1)
    found, _ = row_standings.standings(rows)
    return suite_tables.against_baselines(found).note

  assert note().endswith("no loss ratio: all on 1 of 2 tasks.")
  assert note("a").endswith("all but a against adam on 1 of 2 tasks.")
  assert note("a", "b", "c").endswith(": d against adam on 1 of 2 tasks.")
  assert "no loss ratio" not in note("a", "b", "c", "d")


def test_zero_and_nan_losses_are_told():
  rows = suite_rows.candidate_rows("one", "flt", 2.0)
  for row in rows:
    row["final"]["train"]["loss"] = 0.0
  found, _ = row_standings.standings([*rows, *suite_rows.adam_rows("one")])
  score = scores.score(found, "flt", "adam")
  assert score.loss_ratio.value == np.inf
  assert suite_tables.overview(found).rows[0][5] == "infinite"
  assert table_cells.ratio(np.inf) == "infinite"
  assert table_cells.number(np.inf) == "diverged"


def test_several_optimizers_stand_side_by_side():
  extra = [
    row
    for task in suite_rows.TASKS
    for row in suite_rows.candidate_rows(task, "slow", 0.5)
  ]
  found, _ = suite_rows.standings(2.0, extra=extra)
  assert found.candidates == ("flt", "slow")
  ups = {
    name: scores.score(found, name, "adam").speed_up.value
    for name in found.candidates
  }
  assert ups["slow"] == pytest.approx(0.5, rel=0.1)
  assert ups["flt"] > 1.9
  table = suite_tables.against_baselines(found)
  assert [row[:2] for row in table.rows] == [["flt", "adam"], ["slow", "adam"]]


def test_tables_are_markdown_and_csv():
  found, _ = suite_rows.standings(2.0)
  table = suite_tables.overview(found)
  lines = tables.markdown(table).splitlines()
  assert lines[2].count("|") == lines[4].count("|") == len(table.header) + 1
  text = tables.csv_text(table)
  assert len(text.splitlines()) == 1 + len(table.rows)
  ours, adam = csv.DictReader(text.splitlines())
  assert (ours["Optimizer"], adam["Optimizer"]) == ("flt", "adam")
  score = scores.score(found, "flt", "adam")
  for column, value in (
    ("Speed-up", score.speed_up.value),
    ("Speed-up, low", score.speed_up.low),
    ("Loss ratio, high", score.loss_ratio.high),
    ("Censored, of", 3.0),
  ):
    assert float(ours[column]) == pytest.approx(value, rel=1e-5)
  for row in csv.reader(text.splitlines()[1:]):
    assert not any("(" in cell for cell in row)


def test_a_bound_says_so_in_csv_and_a_number_that_is_none_is_empty():
  found, _ = suite_rows.standings(20.0)
  (ours, _) = csv.DictReader(
    tables.csv_text(suite_tables.overview(found)).splitlines()
  )
  assert ours["Speed-up"] == "2" and ours["Speed-up, bound"] == "at least"
  assert ours["Speed-up, high"] == ""
  made = tables.Table(
    "x", "", ("a", "b"), [["", tables.Cell("none", low=np.nan)], ["", ""]]
  )
  assert tables.csv_text(made) == 'a,"b, low"\n,\n,\n'
