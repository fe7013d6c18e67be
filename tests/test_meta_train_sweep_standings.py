"""Sweeps of made-up rows: what stands in, what is missing, what is compared."""

import pytest
import suite_rows

from meta_train.evaluation import sweep_standings, sweeps
from meta_train.reports import plot_style, suite_plots, sweep_tables


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
  first, second = sweep_tables.sweep_scores(sweep)["flt"]
  assert first.won.value == 0.0 and second.won.value == 1.0
  cells = sweep_tables.sweep_table(sweep).rows
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
  first, second = sweep_tables.sweep_scores(sweep)["flt"]
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
  scored = sweep_tables.sweep_scores(sweep)["flt"]
  assert [len(score.tasks) for score in scored] == [1, 1]
  assert scored[0].loss_ratio == scored[1].loss_ratio
  (sentence,) = sweep_tables.left_out(sweep)
  assert "two can't be scored at all settings" in sentence


def test_settings_are_in_the_order_of_their_sweep():
  def at(value, task):
    made = suite_rows.candidate_rows(task, "flt", 2.0)
    setting = {"sweep": "batch_size", "value": value}
    return [{**row, "setting": setting} for row in made]

  # The first task has no batches to make smaller or larger.
  rows = at("x1", "one")
  for value in ("x4", "unheard of", "x0.25", "x2", "x1", "x0.5"):
    rows += at(value, "two")
  (sweep,), _ = sweep_standings.sweeps_in(rows)
  assert list(sweep.settings) == [
    *(setting.value for setting in sweeps.make_sweep("batch_size")),
    "unheard of",
  ]


def test_loss_ratios_are_of_tasks_that_have_one_at_all_settings():
  """A task whose loss becomes negative is in none of them, and that is told."""

  def rows(below):
    made = []
    for task, factor in (("one", 1.2), ("two", 3.0)):
      for row in (
        *suite_rows.candidate_rows(task, "flt", factor),
        *suite_rows.adam_rows(task)[:-1],
      ):
        if task == "two":
          row["final"]["train"]["loss"] -= below
        made.append(row)
    return made

  sweep, _ = _sweep("horizon", x1=rows(0.0), x5=rows(1.0))
  first, second = sweep_tables.sweep_scores(sweep)["flt"]
  assert first.loss_ratio == second.loss_ratio
  assert first.won.value == second.won.value == 1.0  # Of both tasks.
  note = sweep_tables.sweep_table(sweep).note
  assert "A negative loss has no loss ratio: flt on 1 of 2 tasks." in note


def test_baselines_that_were_asked_for_are_shown_beside():
  rows = [
    *suite_rows.candidate_rows("one", "flt", 2.0),
    *suite_rows.adam_rows("one")[:-1],
    *suite_rows.candidate_rows("one", "muon", 1.5, role="baseline"),
  ]
  for row in rows:
    if row["optimizer"] == "muon":
      row["learning_rate"] = 0.01
  sweep, _ = _sweep("horizon", x1=rows, x5=rows)
  shown = [row[:2] for row in sweep_tables.sweep_table(sweep).rows]
  assert shown == [[n, v] for n in ("flt", "muon") for v in ("x1", "x5")]


def test_settings_without_a_common_task_are_told():
  def rows(task):
    ours = suite_rows.candidate_rows(task, "flt", 2.0)
    return [*ours, *suite_rows.adam_rows(task)[:-1]]

  sweep, _ = _sweep("width", x1=rows("one"), x2=rows("two"))
  assert sweep_tables.sweep_scores(sweep) == {"flt": [None, None]}
  assert sweep_tables.sweep_table(sweep).rows == []
  assert sweep_tables.left_out(sweep) == [
    "sweep of width, flt: no task can be scored at all settings, neither one "
    "nor two, so there is nothing to compare."
  ]


def test_a_ratio_that_is_infinite_is_drawn_and_says_so():
  pytest.importorskip("matplotlib")
  at_zero = suite_rows.candidate_rows("one", "flt", 1.0)
  for row in at_zero:
    row["final"]["train"]["loss"] = 0.0
  adam = suite_rows.adam_rows("one")[:-1]
  sweep, _ = _sweep(
    "horizon",
    x1=[*suite_rows.candidate_rows("one", "flt", 2.0), *adam],
    x5=[*at_zero, *adam],
  )
  scores = list(sweep_tables.sweep_scores(sweep).values())
  draw = suite_plots.sweep_ratios(sweep, scores)
  (axis,) = draw(plot_style.THEMES["light"]).axes
  (text,) = axis.texts
  assert text.get_text() == "infinite" and text.xy[0] == 1
  (line,) = (x for x in axis.lines if x.get_marker() == "o")
  first, second = line.get_ydata()
  assert second > first > 1.0
