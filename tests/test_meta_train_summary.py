"""Summaries of rows whose answers are known."""

import evaluation_rows
import numpy as np
import pytest

from meta_train.evaluation.summary import compare_runs, headline, summarize


def _one(rows):
  results, problems = summarize(rows)
  assert len(results) == 1
  return results[0], problems


def test_tuning_picks_the_right_rate_and_comparison_the_right_ratio():
  result, problems = _one(evaluation_rows.rows())
  assert problems == []
  assert result.tuned["adam"].learning_rate == 0.01
  assert not result.at_edge("adam")
  found = compare_runs(result.learned, result.tuned["adam"])
  assert found.mean_ratio == pytest.approx(2.0)
  assert found.wins == evaluation_rows.NUM_SEEDS
  text = headline(result, "adam")
  assert "beats adam" in text and "4 of 4 seeds" in text


@pytest.mark.parametrize(
  ("learned", "verdict"), [(0.2, "is level with"), (0.3, "loses to")]
)
def test_headline_says_who_won(learned, verdict):
  result, _ = _one(evaluation_rows.rows(learned=learned))
  assert verdict in headline(result, "adam")


@pytest.mark.parametrize(
  ("learned", "verdict"),
  [(0.1, "ends lower than"), (0.2, "is level with"), (0.3, "ends higher than")],
)
def test_one_seed_shows_no_winner(learned, verdict):
  rows = evaluation_rows.rows(learned=learned)
  result, _ = _one([row for row in rows if row["seed"] == 0])
  said = headline(result, "adam")
  assert verdict in said and "of one seed" in said
  found = compare_runs(result.learned, result.tuned["adam"])
  assert np.isnan(found.mean_ratio_low) and np.isnan(found.mean_ratio_high)


def test_nobody_beats_another_by_rounding():
  result, _ = _one(evaluation_rows.rows(learned=0.2 * (1 - 1e-7)))
  said = headline(result, "adam")
  assert "is level with" in said and "ratio 1," in said


@pytest.mark.parametrize(
  ("learned", "verdict"), [(0.1, "beats"), (0.2, "is level"), (0.3, "loses to")]
)
def test_negative_losses_have_a_winner_and_no_ratio(learned, verdict):
  rows = evaluation_rows.rows(learned=learned)
  more = [{**row, "seed": row["seed"] + 4} for row in rows]
  for row in (*rows, *more):
    if row["final"]["train"]["loss"] is not None:
      row["final"]["train"] = {"loss": row["final"]["train"]["loss"] - 5.0}
  result, _ = _one([*rows, *more])
  said = headline(result, "adam")
  assert verdict in said and "nan" not in said
  # Equal losses have a ratio, whatever they are.
  assert ("no ratio of negative losses" in said) == (learned != 0.2)


def test_diverged_learned_optimizer_loses():
  result, _ = _one(evaluation_rows.rows(learned=np.inf))
  found = compare_runs(result.learned, result.tuned["adam"])
  assert found.mean_ratio == 0.0
  assert found.wins == 0
  assert "loses to" in headline(result, "adam")


def test_best_rate_at_the_edge_is_noticed():
  result, _ = _one(evaluation_rows.rows(adam={0.01: 0.3, 0.1: 0.2}))
  assert result.at_edge("adam")


def test_missing_runs_are_told_and_the_others_paired():
  rows = evaluation_rows.rows()
  lacking = [r for r in rows if (r["optimizer"], r["seed"]) != ("flt", 1)]
  result, problems = _one(lacking)
  assert problems == [
    "toy: flt lacks 1 of 4 runs; comparisons use the seeds that are there."
  ]
  found = compare_runs(result.learned, result.tuned["adam"])
  assert found.num_pairs == 3
  assert found.mean_ratio == pytest.approx(2.0)


def test_missing_optimizers_are_told():
  rows = [r for r in evaluation_rows.rows() if r["role"] == "learned"]
  result, problems = _one(rows)
  assert len(problems) == 2
  assert "untrained" in problems[0] and "baseline" in problems[1]
  assert "nothing to compare" in headline(result, "adam")


def test_tasks_are_kept_apart():
  results, _ = summarize(
    evaluation_rows.rows() + evaluation_rows.rows(learned=0.4, task="other")
  )
  assert [result.task for result in results] == ["toy", "other"]
  assert results[1].learned.losses.min() == pytest.approx(0.4)


def test_measure_that_some_rows_lack_is_left_out():
  rows = evaluation_rows.rows()
  del rows[0]["final"]["valid"]["accuracy"]
  result, _ = _one(rows)
  assert result.learned.mean("valid", "accuracy") is None
  assert result.untrained.mean("valid", "accuracy") == 0.5
