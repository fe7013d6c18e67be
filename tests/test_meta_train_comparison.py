"""Statistics on runs whose answers are known."""

import json

import numpy as np
import pytest

from meta_train.evaluation.comparison import best_rate, compare
from meta_train.rows import finite


def _losses(seed=0, size=16):
  return np.random.default_rng(seed).lognormal(size=size)


def test_identical_optimizers_tie():
  losses = _losses()
  found = compare(losses, losses)
  assert found.mean_ratio == 1.0
  assert found.mean_ratio_low == found.mean_ratio_high == 1.0
  assert (found.wins, found.ties) == (0, 16)
  rounded = compare(losses * (1 - 1e-7), losses)
  assert (rounded.wins, rounded.ties) == (0, 16)


def test_half_the_loss_everywhere_is_a_certain_two():
  losses = _losses()
  found = compare(losses / 2, losses)
  # Pairing takes all variation between seeds out of the interval.
  assert found.mean_ratio_low == pytest.approx(2.0)
  assert found.mean_ratio_high == pytest.approx(2.0)
  assert found.wins == found.num_pairs == 16


def test_interval_covers_the_truth_as_often_as_it_says():
  rng = np.random.default_rng(1)
  covered = 0
  trials = 300
  for _ in range(trials):
    reference = rng.lognormal(sigma=0.3, size=30)
    candidate = 0.8 * reference * rng.lognormal(-0.02, 0.2, size=30)
    found = compare(candidate, reference, num_resamples=500)
    covered += found.mean_ratio_low <= 1.25 <= found.mean_ratio_high
  # The percentile interval of 30 pairs covers the truth in 0.927 of 4,000
  # trials; three standard errors of 300 trials are 0.045.
  assert covered / trials == pytest.approx(0.927, abs=0.045)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_diverged_run_is_worst_and_json_has_no_nan(bad):
  reference = _losses()
  candidate = reference / 10
  candidate[3] = bad
  found = compare(candidate, reference)
  assert found.mean_ratio == 0.0
  assert found.wins == 15
  assert not any(np.isnan(x) for x in found)
  json.dumps(finite(found._asdict()), allow_nan=False)


def test_both_diverged_is_a_tie():
  found = compare(np.full(4, np.inf), np.full(4, np.nan))
  assert found.mean_ratio == 1.0
  assert found.ties == 4


def test_unpaired_runs_are_refused():
  with pytest.raises(ValueError, match="3 runs can't be paired with 4"):
    compare(np.ones(3), np.ones(4))


def test_tuning_takes_the_best_mean():
  good, noisy = np.array([1.0, 1.0, 1.0]), np.array([0.1, 0.1, 9.0])
  assert best_rate({0.1: noisy, 0.01: good, 0.001: 2 * good}) == 0.01


def test_tuning_shuns_rates_that_diverge():
  fine, broken = np.array([5.0, 5.0]), np.array([0.1, np.nan])
  assert best_rate({0.01: fine, 0.1: broken}) == 0.01
  # Where all do, the one with fewest failures is the lesser evil.
  worse = np.array([np.inf, np.inf])
  assert best_rate({0.1: worse, 0.3: broken}) == 0.3
  with pytest.raises(ValueError, match="no learning rate"):
    best_rate({})
