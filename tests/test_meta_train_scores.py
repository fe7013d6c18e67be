"""Standings and scores of made-up suites whose answers are known."""

import numpy as np
import pytest
import suite_rows

from meta_train.evaluation import scores, standings, sweep_standings
from meta_train.evaluation.measures import smoothing
from meta_train.reports import suite_plots, suite_tables, table_cells

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
  assert score.speed_up.value == pytest.approx(2.0, rel=0.02)
  assert score.speed_up.low < score.speed_up.value <= score.speed_up.high
  assert score.num_speed_ups == 3
  assert score.speed_ratio.value == pytest.approx(2.0, rel=0.02)
  assert score.loss_ratio.value == pytest.approx(20.95 / 10.975, rel=1e-3)
  assert score.won == (1.0, 1.0, 1.0)
  assert (score.sure_wins, score.sure_losses) == (3, 0)
  assert score.failures == (0, 0)


def test_identical_optimizers_tie():
  found, _ = _found(1.0)
  score = scores.score(found, "flt", "adam")
  assert found.runs["one"]["adam"].learning_rate == 0.1
  assert score.won.value == 0.5
  assert score.won.low <= 0.5 <= score.won.high
  assert score.loss_ratio == score.speed_ratio == (1.0, 1.0, 1.0)
  assert score.speed_up.low <= 1.0 <= score.speed_up.high
  assert score.speed_up.value == pytest.approx(1.0, rel=0.01)
  assert score.num_censored == 0
  assert (score.sure_wins, score.sure_losses) == (0, 0)
  assert scores.average_ranks(found) == {"flt": 1.5, "adam": 1.5}


@pytest.mark.parametrize("spread", [0.1, 0.5])
def test_seeds_at_different_levels_do_not_censor_an_identical_optimizer(spread):
  # The best seed ends far below all of the envelope, the worst far above.
  found, _ = _found(1.0001, spread=spread, noise=0.05)
  score = scores.score(found, "flt", "adam")
  assert score.speed_up.value == pytest.approx(1.0, rel=0.05)
  assert score.speed_up.low < 1.0 < score.speed_up.high
  assert score.num_censored == 0 and not score.is_speed_up_bound
  (cell,) = (
    row[6] for row in suite_tables.by_task(found).rows[:1] if row[1] == "flt"
  )
  assert float(cell) == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize(("factor", "censored"), [(1.95, 0), (2.1, 3)])
def test_twice_the_speed_with_seeds_at_different_levels(factor, censored):
  found, _ = _found(factor, spread=0.5, noise=0.02)
  score = scores.score(found, "flt", "adam")
  assert score.speed_up.value == pytest.approx(min(factor, 2.0), rel=0.02)
  assert score.num_censored == censored
  assert score.is_speed_up_bound == bool(censored)


def test_one_diverged_seed_has_no_speed_up_if_only_in_the_last_measurement():
  rows = suite_rows.candidate_rows("one", "flt", 1.5)
  for split in rows[2]["final"].values():
    split["loss"] = None
  rows[2]["diverged"] = True
  assert rows[2]["last_loss"] is not None
  found, _ = standings.standings([*rows, *suite_rows.adam_rows("one")])
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
  found, _ = standings.standings([*rows, *adam])
  won = scores.score(found, "flt", "adam").won
  # Both means are infinite in most draws; fewer diverged runs win there too.
  assert won.value == won.high == 1.0


def test_rows_of_another_definition_are_left_out_and_told():
  old = [
    {**row, "definition": "old"}
    for row in (
      *suite_rows.adam_rows("one"),
      *suite_rows.candidate_rows("one", "slow", 0.5),
    )
  ]
  new = [
    {**row, "definition": "new"}
    for row in suite_rows.candidate_rows("one", "flt", 2.0)
  ]
  found, problems = standings.standings([*old, *new])
  assert found.optimizers == ("flt",)
  for name in ("adam", "slow"):
    assert f"one: rows of {name} are of another definition" in str(problems)


def test_the_rate_with_curves_stays_the_best_on_fewer_seeds():
  rows = suite_rows.adam_rows("one")
  for row in rows:
    if row["role"] == "baseline" and row["learning_rate"] != 0.01:
      row["curve"] = []
  # On seed 0 alone the rate 0.1 is lower.
  found, _ = standings.standings([row for row in rows if row["seed"] == 0])
  assert found.runs["one"]["adam"].learning_rate == 0.01


def test_never_reached_is_censored_and_not_a_number():
  found, _ = _found(20.0)
  score = scores.score(found, "flt", "adam")
  assert score.num_censored == score.num_speed_ups == 3
  assert score.is_speed_up_bound
  table = suite_tables.overview(found)
  (cell,) = (row[2] for row in table.rows if row[0] == "flt")
  assert cell == "at least 2.00 (from 2.00)"
  (cell, *_) = (
    row[6] for row in suite_tables.by_task(found).rows if row[1] == "flt"
  )
  assert cell == "> 2"


def test_diverging_optimizer_fails_and_is_worst():
  found, _ = _found(np.inf)
  score = scores.score(found, "flt", "adam")
  assert score.failures.total == score.num_runs == 15
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
  assert scores.score(found, "flt", "adam").failures == (5, 0)


def test_a_run_fails_by_its_own_first_loss():
  rows = suite_rows.candidate_rows("one", "flt", 0.001, spread=0.5)
  for row in rows:
    row["final"]["train"]["loss"] = 1.001 * row["first_loss"]
  rows[4]["final"]["train"]["loss"] = 0.9 * rows[4]["first_loss"]
  found, _ = standings.standings([*rows, *suite_rows.adam_rows("one")])
  # Seed 0 ends below where the others began, and seed 4 above.
  assert scores.score(found, "flt", "adam").failures == (4, 0)


def test_a_noisy_first_batch_is_no_failure():
  rows = suite_rows.candidate_rows("one", "flt", 0.001)
  for row in rows:
    row["first_loss"] = 0.5 * row["final"]["train"]["loss"]
  found, _ = standings.standings([*rows, *suite_rows.adam_rows("one")])
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
  found, _ = standings.standings([*rows, *suite_rows.adam_rows("one")])
  score = scores.score(found, "flt", "adam")
  assert score.failures == (0, blew_up)
  cell = suite_tables.overview(found).rows[0][-2]
  if blew_up:
    assert cell == "1 of 5 (0 ended badly, 1 blew up on the way)"
  else:
    assert cell == "0 of 5"


def test_held_out_loss_is_counted_at_its_own_best_rate():
  ours = suite_rows.candidate_rows("one", "flt", 2.0)
  adam = suite_rows.adam_rows("one")
  for row in adam:
    if row["learning_rate"] == 0.01:  # Not the best by training loss.
      row["final"]["valid"]["loss"] = 1e-3
      row["curve"] = []
  found, _ = standings.standings([*ours, *adam])
  assert found.runs["one"]["adam"].learning_rate == 0.1
  assert found.held_out["one"]["adam"] == dict.fromkeys(range(5), 1e-3)
  score = scores.score(found, "flt", "adam")
  assert score.won == (1.0, 1.0, 1.0)
  assert score.won_held_out == (0.0, 0.0, 0.0) and score.num_held_out == 1
  for table in (
    suite_tables.overview(found),
    suite_tables.against_baselines(found),
  ):
    column = table.header.index("Won on held-out data")
    assert table.rows[0][column] == "0 % (0 to 0)"


def test_runs_without_a_held_out_loss_have_no_share_of_wins_by_it():
  ours = suite_rows.candidate_rows("one", "flt", 2.0)
  for row in ours:
    del row["final"]["valid"]
  found, _ = standings.standings([*ours, *suite_rows.adam_rows("one")])
  score = scores.score(found, "flt", "adam")
  assert score.won_held_out is None and score.num_held_out == 0


def test_each_line_says_on_how_many_tasks_it_is():
  extra = suite_rows.candidate_rows("one", "slow", 0.5)
  found, problems = _found(2.0, extra=extra)
  table = suite_tables.overview(found)
  assert [row[:2] for row in table.rows] == [
    ["flt", "3"],
    ["slow", "1"],
    ["adam", "3"],
  ]
  assert "Rank on 1 task" in table.header
  assert "ranks and the performance profile are of 1 of 3 tasks" in problems[-1]


def test_optimizers_that_lack_the_same_tasks_share_a_sentence():
  rows = [
    row
    for task, names in (("one", ("a", "b", "c")), ("two", ("a",)))
    for name in names
    for row in suite_rows.candidate_rows(task, name, 1.0)
  ]
  _, problems = standings.standings(rows)
  assert "b, c have no runs on 1 of 2 tasks: two." in problems


def test_negative_losses_have_speed_and_wins_but_no_ratio():
  found, _ = _found(1.5, shift=0.5)
  assert (found.runs["one"]["flt"].losses < 0).all()
  score = scores.score(found, "flt", "adam")
  assert score.loss_ratio is None and score.num_without_ratio == 3
  assert score.won.value == 1.0
  assert score.speed_ratio.value == pytest.approx(1.5, rel=0.02)
  assert score.speed_up.value == pytest.approx(1.5, rel=0.05)
  table = suite_tables.overview(found)
  assert "none" in table.rows[0]
  assert "no loss ratio: flt on 3 of 3 tasks." in table.note


def test_zero_and_nan_losses_are_told():
  rows = suite_rows.candidate_rows("one", "flt", 2.0)
  for row in rows:
    row["final"]["train"]["loss"] = 0.0
  found, _ = standings.standings([*rows, *suite_rows.adam_rows("one")])
  score = scores.score(found, "flt", "adam")
  assert score.loss_ratio.value == np.inf
  assert suite_tables.overview(found).rows[0][5] == "infinite"
  assert table_cells.ratio(np.inf) == "infinite"
  assert table_cells.number(np.inf) == "diverged"


def test_profile_finds_the_fastest():
  found, _ = _found(2.0)
  profile = scores.profile_of(found, np.asarray([1.0, 1.5, 3.0]))
  assert profile[:, 0].tolist() == [1.0, 1.0, 1.0]
  assert profile[:, 1].tolist() == [0.0, 0.0, 1.0]


def test_a_target_is_the_mean_last_loss_and_not_the_lowest():
  rows = suite_rows.adam_rows("one")
  for row in rows:
    if row["role"] == "baseline":  # It rises at the end.
      row["curve"][-20:] = [1.5 * x for x in row["curve"][-20:]]
  ours = suite_rows.candidate_rows("one", "flt", 1.0)
  found, _ = standings.standings([*ours, *rows])
  last = np.mean([row["curve"][-2:] for row in rows[-6:-1]])
  reached = 4 * sum(
    smoothing.smooth(np.asarray([row["curve"] for row in ours])).mean(0) > last
  )
  _, times = scores.times_to_target(found)
  assert times[0, 0] == pytest.approx(reached, abs=8) and times[0, 0] < 150


@pytest.mark.parametrize(
  ("shares", "expected"),
  [
    ([0.5, 0.2, 0.5], "flt and adam are the fastest most often"),
    ([0.5, 0.2, 0.2], "flt is the fastest most often"),
    ([0.5, 0.5, 0.5], "3 optimizers are the fastest equally often"),
    ([0.0, 0.0, 0.0], "Nobody reaches tuned Adam's loss"),
  ],
)
def test_all_that_are_tied_for_the_fastest_are_named(shares, expected):
  extra = suite_rows.candidate_rows("one", "slow", 0.5)
  found, _ = _found(2.0, tasks=("one",), extra=extra)
  assert found.optimizers == ("flt", "slow", "adam")
  assert suite_plots._fastest(found, np.asarray(shares)) == expected


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


def _sweep(name, **settings):
  """Returns a sweep, and gaps, from rows by setting."""
  rows = [
    {**row, "setting": {"sweep": name, "value": value}}
    for value, made in settings.items()
    for row in made
  ]
  (sweep,), problems = sweep_standings.sweeps_in(rows, num_seeds=5)
  assert list(sweep.settings) == list(settings)
  return sweep, problems


def test_adam_of_one_setting_stands_in_where_it_is_not_told():
  settings = {
    "x0.5": suite_rows.candidate_rows("one", "flt", 0.5),
    "x1": [
      *suite_rows.candidate_rows("one", "flt", 2.0),
      *suite_rows.adam_rows("one")[:-1],
    ],
  }
  sweep, problems = _sweep("told_steps", **settings)
  assert problems == []  # Nobody needs an envelope here.
  first, second = suite_tables.sweep_scores(sweep)["flt"]
  assert first.won.value == 0.0 and second.won.value == 1.0
  cells = suite_tables.sweep_table(sweep).rows
  assert [row[1] for row in cells] == ["x0.5", "x1"]


def test_adam_of_another_setting_does_not_stand_in_elsewhere():
  settings = {
    "x1": [
      *suite_rows.candidate_rows("one", "flt", 2.0),
      *suite_rows.adam_rows("one")[:-1],
    ],
    "x5": suite_rows.candidate_rows("one", "flt", 2.0)[:-1],
  }
  sweep, problems = _sweep("horizon", **settings)
  first, second = suite_tables.sweep_scores(sweep)["flt"]
  assert first.won.value == 1.0 and second is None
  assert any(
    each.startswith("horizon x5: there are no runs of adam")
    for each in problems
  )
  assert any("horizon x5: one: flt lacks 1 of 5" in each for each in problems)


def test_what_all_settings_lack_is_told_once():
  rows = suite_rows.candidate_rows("one", "flt", 2.0)
  _, problems = _sweep("horizon", x1=rows, x5=rows, x25=rows)
  (sentence,) = problems
  assert sentence.startswith("horizon: there are no runs of adam")


def test_settings_are_compared_on_the_tasks_that_all_of_them_have():
  def rows(*tasks):
    return [
      row
      for task, factor in tasks
      for row in (
        *suite_rows.candidate_rows(task, "flt", factor),
        *suite_rows.adam_rows(task)[:-1],
      )
    ]

  sweep, problems = _sweep(
    "width", x1=rows(("one", 2.0), ("two", 0.5)), x2=rows(("one", 2.0))
  )
  assert problems == []
  scored = suite_tables.sweep_scores(sweep)["flt"]
  assert [len(score.tasks) for score in scored] == [1, 1]
  assert scored[0].loss_ratio == scored[1].loss_ratio
  (sentence,) = suite_tables.left_out(sweep)
  assert "two can't be scored at all settings" in sentence


def test_tables_are_markdown_and_csv():
  found, _ = _found(2.0)
  table = suite_tables.overview(found)
  lines = suite_tables.markdown(table).splitlines()
  assert lines[2].count("|") == lines[4].count("|") == len(table.header) + 1
  text = suite_tables.csv_text(table)
  assert text.splitlines()[0].startswith("Optimizer,Tasks,Speed-up")
  assert len(text.splitlines()) == 1 + len(table.rows)
