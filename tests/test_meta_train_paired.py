"""Who is better on a task, and how sure that is."""

import itertools

import numpy as np
import pytest
import scipy.stats

from meta_train.evaluation.measures import (
  paired,
  ranking,
  ratios,
)


def test_sign_flip_p_is_scipys_permutation_test():
  rng = np.random.default_rng(0)
  for size in (3, 5, 9):
    ours, theirs = rng.normal(size=size), rng.normal(0.3, size=size)
    expected = scipy.stats.permutation_test(
      (ours, theirs),
      lambda x, y: np.sum(x - y),
      permutation_type="samples",
      alternative="less",
      n_resamples=np.inf,
    ).pvalue
    assert paired.sign_flip_p(ours, theirs) == pytest.approx(expected)


def test_sign_flip_p_of_many_pairs_is_close_to_the_t_test():
  rng = np.random.default_rng(1)
  ours, theirs = rng.normal(size=40), rng.normal(0.3, size=40)
  expected = scipy.stats.ttest_rel(ours, theirs, alternative="less").pvalue
  assert paired.sign_flip_p(ours, theirs) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
  ("num_runs", "chance"), [(1, 0), (4, 0), (5, 1 / 32), (6, 3 / 64)]
)
def test_chance_of_a_p_below_the_level_is_that_of_random_signs(
  num_runs, chance
):
  assert paired.chance_below(0.05, num_runs) == chance
  sizes = np.arange(1.0, num_runs + 1) ** 3  # All sums differ.
  signs = itertools.product((-1.0, 1.0), repeat=num_runs)
  p = [paired.sign_flip_p(sizes * each, np.zeros(num_runs)) for each in signs]
  assert np.mean(np.asarray(p) < 0.05) == chance


def test_better_on_all_five_seeds_is_the_least_p():
  ours = np.arange(1.0, 6.0)
  found = paired.outcome(ours, ours + np.asarray([1, 2, 3, 4, 5]))
  assert found == (1.0, 1 / 32, 1.0)


def test_identical_optimizers_tie_everywhere():
  losses = np.random.default_rng(0).lognormal(size=5)
  assert paired.outcome(losses, losses) == (0.5, 1.0, 1.0)
  assert (ratios.loss_ratio(losses, losses) == 1).all()
  np.testing.assert_array_equal(
    ranking.ranks(np.stack([losses, losses], 1)), 1.5
  )


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_diverged_run_is_worst(bad):
  theirs = np.asarray([1.0, 2.0, 3.0, 4.0, 5.0])
  ours = theirs / 10
  assert paired.is_better(ours, theirs) == 1.0
  ours[2] = bad
  assert paired.outcome(ours, theirs).win == 0.0
  assert paired.outcome(ours, theirs).p_better > 0.4
  theirs[2:4] = np.inf  # Two of theirs are worse than one of ours.
  assert paired.is_better(ours, theirs) == 1.0
  both = np.full(5, bad)
  assert paired.outcome(both, np.full(5, np.inf)) == (0.5, 1.0, 1.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_nobody_wins_by_rounding(sign):
  theirs = sign * np.asarray([1.0, 2.0, 3.0])
  ours = theirs - 9e-6 * np.abs(theirs)
  assert paired.outcome(ours, theirs) == (0.5, 1.0, 1.0)
  assert ranking.ranks(np.stack([ours, theirs], -1)).tolist() == [[1.5] * 2] * 3
  ours = theirs - 2e-5 * np.abs(theirs)
  assert paired.outcome(ours, theirs) == (1.0, 0.125, 1.0)
  assert ranking.ranks(np.stack([ours, theirs], -1)).tolist() == [[1, 2]] * 3


def test_medians_decide_only_where_means_are_infinite():
  ours, theirs = [1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, 3.1, 3.9, 5.0]
  assert paired.is_better(ours, theirs) == 0.5
  ours, theirs = [*ours[2:], np.inf], [*theirs[2:], np.inf]
  assert paired.is_better(ours, theirs) == 0.0
  assert paired.is_better(theirs, ours) == 1.0


def test_many_draws_are_compared_like_each_of_them():
  rng = np.random.default_rng(0)
  ours, theirs = rng.integers(3, size=(2, 300, 3)).astype(float)
  ours[rng.random(ours.shape) < 0.3] = np.inf
  theirs[rng.random(theirs.shape) < 0.3] = np.nan
  found = paired.is_better(ours, theirs)
  assert set(found) == {0.0, 0.5, 1.0}
  each = [paired.is_better(*pair) for pair in zip(ours, theirs)]
  np.testing.assert_array_equal(found, each)


def test_unpaired_runs_are_refused():
  with pytest.raises(ValueError, match="3 runs can't be paired with 4"):
    paired.outcome(np.ones(3), np.ones(4))
