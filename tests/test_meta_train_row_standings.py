"""Standings of made-up rows: what is chosen, left out, missing and told."""

import suite_rows

from meta_train.evaluation import row_standings, scores


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
  found, problems = row_standings.standings([*old, *new])
  assert found.optimizers == ("flt",)
  for name in ("adam", "slow"):
    assert f"one: rows of {name} are of another definition" in str(problems)


def test_rows_of_other_weights_are_left_out_and_told():
  def rows(task, name, made_by):
    return [
      {**row, **({"fingerprint": made_by} if made_by else {})}
      for row in suite_rows.candidate_rows(task, name, 1.0)
    ]

  new = [*rows("one", "flt", "new"), *rows("three", "b", "x")]
  unknown = [*rows("one", "c", None), *suite_rows.adam_rows("one")]
  old = rows("two", "flt", "old")
  kept, problems = row_standings.of_newest_weights([*old, *unknown, *new])
  assert kept == [*unknown, *new]
  (problem,) = problems
  assert problem.startswith("rows of flt on two are of other weights")


def test_the_rate_with_curves_stays_the_best_on_fewer_seeds():
  rows = suite_rows.adam_rows("one")
  for row in rows:
    if row["role"] == "baseline" and row["learning_rate"] != 0.01:
      row["curve"] = []
  # On seed 0 alone the rate 0.1 is lower.
  found, _ = row_standings.standings([row for row in rows if row["seed"] == 0])
  assert found.runs["one"]["adam"].learning_rate == 0.01


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
  found, _ = suite_rows.standings(2.0, tasks=("one",), extra=[*tuning, *best])
  assert found.runs["one"]["lion"].seeds == (0, 1, 2, 3, 4)
  assert ("one", "lion") in found.at_edge
  assert ("one", "adam") in found.at_edge
  assert scores.score(found, "flt", "lion").speed_up is None


def test_optimizers_that_lack_the_same_tasks_share_a_sentence():
  rows = [
    row
    for task, names in (("one", ("a", "b", "c")), ("two", ("a",)))
    for name in names
    for row in suite_rows.candidate_rows(task, name, 1.0)
  ]
  _, problems = row_standings.standings(rows)
  assert "b, c have no runs on 1 of 2 tasks: two." in problems


def test_missing_runs_are_told():
  found, problems = row_standings.standings(
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
  assert row_standings.standings([])[1] == ["there are no results."]


def test_what_was_not_measured_is_told():
  ours = suite_rows.candidate_rows("one", "flt", 2.0)
  adam = suite_rows.adam_rows("one")
  assert not row_standings.standings([*ours, *adam])[1]
  del ours[2]["final"]["valid"]["loss"]
  for row in adam[:-1]:
    del row["final"]["valid"]["accuracy"]
  _, problems = row_standings.standings([*ours, *adam])
  first, second = problems
  assert first.startswith("one: 1 of 5 runs of flt have no held-out loss")
  assert second.startswith(
    "accuracy was not measured, and is blank, on 1 of 1 tasks for adam;"
  )
  assert "python -m meta_train.make_baselines" in second


def test_a_measure_that_many_lack_is_one_sentence():
  rows = []
  for task in ("a", "b", "c"):
    rows += suite_rows.candidate_rows(task, "flt", 2.0)
    for name in ("lion", "muon"):
      rows += suite_rows.candidate_rows(task, name, 1.0)
    rows += suite_rows.adam_rows(task)
  for row in rows:
    if row["optimizer"] == "lion" and row["task"] != "b":
      del row["final"]["valid"]["accuracy"]
    if row["optimizer"] in ("adam", "muon") and row["task"] == "c":
      row["final"].get("valid", {}).pop("accuracy", None)
  (said,) = row_standings.standings(rows)[1]
  assert "on 2 of 3 tasks for lion, on 1 of 3 tasks for muon, adam;" in said


def test_seeds_that_are_not_shared_are_told():
  ours = suite_rows.candidate_rows("one", "flt", 2.0)
  for row in ours:
    row["seed"] += 10
  found, problems = row_standings.standings(
    [*ours, *suite_rows.adam_rows("one")]
  )
  assert scores.score(found, "flt", "adam") is None
  assert "one: flt and adam share no seed, and can't be compared." in problems
