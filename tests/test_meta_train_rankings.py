"""Ranks, times to a target and profiles whose answers are known."""

import numpy as np
import pytest
import suite_rows

from meta_train.evaluation import rankings, row_standings
from meta_train.evaluation.measures import smoothing
from meta_train.reports import suite_plots


def test_profile_finds_the_fastest():
  found, _ = suite_rows.standings(2.0)
  profile = rankings.profile_of(found, np.asarray([1.0, 1.5, 3.0]))
  assert profile[:, 0].tolist() == [1.0, 1.0, 1.0]
  assert profile[:, 1].tolist() == [0.0, 0.0, 1.0]


def test_a_target_is_the_mean_last_loss_and_not_the_lowest():
  rows = suite_rows.adam_rows("one")
  for row in rows:
    if row["role"] == "baseline":  # It rises at the end.
      row["curve"][-20:] = [1.5 * x for x in row["curve"][-20:]]
  ours = suite_rows.candidate_rows("one", "flt", 1.0)
  found, _ = row_standings.standings([*ours, *rows])
  last = np.mean([row["curve"][-2:] for row in rows[-6:-1]])
  reached = 4 * sum(
    smoothing.smooth(np.asarray([row["curve"] for row in ours])).mean(0) > last
  )
  _, times = rankings.times_to_target(found)
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
  found, _ = suite_rows.standings(2.0, tasks=("one",), extra=extra)
  assert found.optimizers == ("flt", "slow", "adam")
  assert suite_plots._fastest(found, np.asarray(shares)) == expected
