"""Interquartile means and their intervals are those of scipy and rliable."""

import numpy as np
import pytest
import scipy.stats

from meta_train.evaluation.measures import (
  aggregate,
)


def test_iqm_is_scipys_trimmed_mean():
  rng = np.random.default_rng(0)
  for size in (1, 3, 4, 17, 155):
    scores = rng.lognormal(size=size)
    assert aggregate.iqm(scores) == pytest.approx(
      scipy.stats.trim_mean(scores, 0.25)
    )
  with pytest.raises(ValueError, match="1 are NaN"):
    aggregate.iqm(np.asarray([1.0, np.nan]))
  with pytest.raises(ValueError, match="0 scores"):
    aggregate.iqm(np.asarray([]))


def _reference_interval(scores, num_resamples, seed):
  """The percentile interval of rliable's stratified bootstrap, written out.

  Scores are [runs, tasks]; runs are drawn for each entry of that shape.
  """
  rng = np.random.default_rng(seed)
  values = []
  for _ in range(num_resamples):
    rows = rng.integers(scores.shape[0], size=scores.shape)
    drawn = scores[rows, np.arange(scores.shape[1])]
    values.append(scipy.stats.trim_mean(drawn, 0.25, axis=None))
  return np.quantile(values, [0.025, 0.975])


def test_bootstrap_interval_is_rliables():
  rng = np.random.default_rng(0)
  scores = rng.lognormal(np.linspace(-1, 1, 12), 0.4, size=(5, 12))
  found = aggregate.bootstrap(list(scores.T), num_resamples=20_000)
  low, high = _reference_interval(scores, 5_000, 1)
  assert found.value == pytest.approx(
    scipy.stats.trim_mean(scores, 0.25, axis=None)
  )
  # Percentiles of 5,000 draws have a standard error of 1.5 % of the width.
  assert found.low == pytest.approx(low, abs=0.07 * (high - low))
  assert found.high == pytest.approx(high, abs=0.07 * (high - low))


def test_bootstrap_covers_the_truth_and_wider_over_tasks():
  rng = np.random.default_rng(3)
  truth = scipy.stats.trim_mean(rng.normal(1.0, 0.2, 400_000), 0.25)
  covered = 0
  for trial in range(200):
    scores = list(rng.normal(1.0, 0.2, size=(10, 8)))
    found = aggregate.bootstrap(scores, num_resamples=400, seed=trial)
    covered += found.low <= truth <= found.high
  # Eight runs to a stratum make it a little narrow: 0.92 is what theory
  # gives; three standard errors of 200 trials are 0.06.
  assert covered / 200 == pytest.approx(0.92, abs=0.06)
  tasks = [np.full(5, level) for level in np.linspace(0.5, 2, 9)]
  fixed = aggregate.bootstrap(tasks)
  drawn = aggregate.bootstrap(tasks, over_tasks=True, num_resamples=400)
  assert fixed.low == fixed.high == fixed.value
  assert drawn.low < fixed.value < drawn.high


def test_bootstrap_of_tasks_draws_runs_and_scores_each_draw():
  rng = np.random.default_rng(0)
  runs = list(rng.normal(1.0, 0.2, size=(8, 5)))
  means = aggregate.bootstrap_of_tasks(runs, [lambda x: x.mean(-1)] * 8)
  expected = np.asarray([x.mean() for x in runs])
  assert means.value == pytest.approx(scipy.stats.trim_mean(expected, 0.25))
  assert means.low < means.value < means.high
  # A run that counts alone is in two of three draws of five: the number is
  # beyond nearly all draws of 40 tasks, and its interval reaches out to it.
  worst = [np.asarray([0.0, 1, 1, 1, 1])] * 40
  found = aggregate.bootstrap_of_tasks(worst, [lambda x: x.min(-1)] * 40)
  assert found.value == found.low == 0.0 < found.high
  with pytest.raises(ValueError, match="at least one run"):
    aggregate.bootstrap_of_tasks([], [])


def test_a_single_run_or_a_single_task_has_no_interval():
  runs = [np.asarray([1.0]), np.asarray([3.0])]
  alone = aggregate.bootstrap(runs)
  assert alone.value == 2.0 and not alone.has_interval
  assert aggregate.bootstrap(runs, over_tasks=True)[1:] == (1.0, 3.0)
  found = aggregate.bootstrap_of_tasks(runs, [lambda x: x.mean(-1)] * 2)
  assert found.value == 2.0 and not found.has_interval
  one = [np.asarray([1.0, 3.0])]
  assert aggregate.bootstrap(one)[1:] == (1.0, 3.0)
  assert not aggregate.bootstrap(one, over_tasks=True).has_interval


def test_shares_of_redrawn_tasks_spread_like_a_binomial():
  # 12 of 20 tasks are won whatever the seeds: a draw of 20 is binomial.
  drawn = np.tile(np.arange(20) < 12, (20_000, 1)).astype(float)
  shares = aggregate.redraw_tasks(drawn).mean(axis=1)
  assert shares.mean() == pytest.approx(0.6, abs=3 * 0.11 / 20_000**0.5)
  assert shares.std() == pytest.approx((0.6 * 0.4 / 20) ** 0.5, rel=0.02)


def test_a_task_that_is_drawn_twice_has_runs_of_its_own_in_each_place():
  drawn = np.random.default_rng(0).normal(size=(20_000, 1)).repeat(2, axis=1)
  first, second = aggregate.redraw_tasks(drawn).T
  # Three standard errors of a correlation.
  assert abs(np.corrcoef(first, second)[0, 1]) < 3 / 20_000**0.5


def test_tasks_may_have_different_numbers_of_runs():
  found = aggregate.bootstrap([np.ones(5), np.ones(3)])
  assert found == (1.0, 1.0, 1.0)
  with pytest.raises(ValueError, match="at least one score"):
    aggregate.bootstrap([np.ones(5), np.ones(0)])
