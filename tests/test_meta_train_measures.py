"""Measures of learning curves whose answers are known."""

import numpy as np
import pytest
import scipy.stats

from meta_train.evaluation.measures import (
  profile,
  ranking,
  ratios,
  smoothing,
  speedup,
)

N = 400
# A grid of learning rates: the small ones are slow, the large ones stall.
RATES = np.geomspace(0.003, 0.3, 7)


def _adam(step, rate, noise=0.0, seed=0):
  """A noisy curve: exponential progress to a floor that grows with rate."""
  curve = np.exp(-rate * step) + 0.05 * rate + 2.0 / (50.0 + step)
  rng = np.random.default_rng(seed)
  return curve * np.exp(noise * rng.normal(size=np.shape(step)))


def _grid(num_steps=2 * N, noise=0.0, num_seeds=5):
  steps = np.arange(num_steps) + 0.5
  return np.asarray(
    [
      [_adam(steps, rate, noise, 100 * i + j) for j in range(num_seeds)]
      for i, rate in enumerate(RATES)
    ]
  )


def test_smooth_is_the_mean_over_the_last_twentieth():
  curve = np.random.default_rng(0).normal(size=(3, 200))
  found = smoothing.smooth(curve)
  np.testing.assert_allclose(found[:, -1], curve[:, -10:].mean(-1))
  np.testing.assert_allclose(found[:, 99], curve[:, 95:100].mean(-1))
  np.testing.assert_allclose(found[:, :20], curve[:, :20])
  np.testing.assert_allclose(smoothing.last_loss(curve), found[:, -1])


def test_smooth_of_blocks_is_that_of_steps():
  curve = np.geomspace(1, 1e-3, 2000)
  blocks = curve.reshape(200, 10).mean(-1)
  np.testing.assert_allclose(
    smoothing.smooth(blocks)[19:], smoothing.smooth(curve)[199::10], rtol=5e-3
  )


def test_divergence_stays_in_smooth_and_monotone_does_not_rise():
  curve = np.asarray([3.0, 1.0, 2.0, np.nan, 1.0])
  assert np.isinf(smoothing.smooth(curve)[3:]).all()
  assert np.isfinite(smoothing.smooth(curve)[:3]).all()
  np.testing.assert_array_equal(smoothing.monotone(curve), [3, 1, 1, 1, 1])


def test_envelope_is_the_best_rate_at_every_moment():
  grid = _grid()
  found = smoothing.envelope(grid)
  means = smoothing.smooth(grid).mean(1)
  assert (found <= means.min(0) + 1e-15).all() and (np.diff(found) <= 0).all()
  best = means.argmin(0)
  assert len(set(best)) >= 4  # Several rates take part in it.
  grid[best[-1], 0, 5:] = np.inf  # One seed of the best diverges,
  worse = smoothing.envelope(grid)
  assert (worse >= found).all() and worse[-1] > found[-1]  # so it is out.


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5, 2.0])
def test_following_the_envelope_at_a_multiple_of_the_speed(factor):
  # With one rate the envelope is that rate's own smooth curve.
  steps = np.arange(3 * N) + 0.5
  curve = 1.0 / (1.0 + 0.05 * steps)
  envelope = smoothing.envelope(curve[None, None])
  candidate = 1.0 / (1.0 + 0.05 * factor * steps[:N])
  found = speedup.speed_up(
    smoothing.last_loss(candidate)[None], envelope, num_steps=N
  )
  assert found.value == pytest.approx(factor, rel=1e-3)
  assert not found.censored


def test_twice_the_speed_scores_two_against_a_noisy_grid_in_blocks():
  grid = _grid(4 * N, noise=0.02)
  blocks = grid.reshape(*grid.shape[:2], -1, 4).mean(-1)
  envelope = smoothing.envelope(blocks)
  rate = smoothing.smooth(grid).mean(1)[:, 2 * N - 1].argmin()
  steps = np.arange(N) + 0.5
  runs = np.asarray(
    [_adam(2 * steps, RATES[rate], 0.02, 999 + i) for i in range(5)]
  )
  found = speedup.speed_up(
    smoothing.last_loss(runs), envelope, num_steps=N, every=4
  )
  assert not found.censored
  assert found.value == pytest.approx(2.0, rel=0.05)


def test_noise_on_a_plateau_lowers_the_envelope_little():
  rng = np.random.default_rng(0)
  steps = np.arange(2 * N) + 0.5
  plateau = 1.0 + np.exp(-0.03 * steps)
  grid = plateau + rng.normal(scale=0.2, size=(14, 5, 2 * N))
  short, long = (smoothing.envelope(grid, least=least) for least in (0, N / 20))
  assert long[-1] > short[-1]
  # The least of some 14 x 30 means of 20 steps and 5 seeds, whose standard
  # deviation is 0.02, is about three of them low.
  assert long[-1] == pytest.approx(1.0 - 0.06, abs=0.02)
  # Without noise it is at most N / 40 steps behind, before N, and not after.
  clean = [
    smoothing.envelope(plateau[None, None], least=least)
    for least in (0, N / 20)
  ]
  np.testing.assert_allclose(clean[0][N:], clean[1][N:])
  late = np.searchsorted(-clean[1][: N - 1], -clean[0][: N - N // 40 - 1])
  assert (late - np.arange(N - N // 40 - 1) <= N / 40 + 1).all()


def test_never_reached_is_censored_and_diverged_is_zero():
  envelope = smoothing.envelope(_grid())
  losses = np.asarray([0.0, -3.0, envelope[-1] / 2, np.inf, np.nan])[:, None]
  found = speedup.speed_up(losses, envelope, num_steps=N)
  assert found.censored.tolist() == [True] * 3 + [False] * 2
  assert found.value.tolist() == [2.0] * 3 + [0.0] * 2


def test_speed_up_is_of_the_mean_over_seeds():
  envelope = smoothing.envelope(_grid())
  level = envelope[N // 2]
  losses = level * np.asarray([0.1, 1.9, 1.0])
  found = speedup.speed_up(losses, envelope, num_steps=N)
  assert found.value == pytest.approx((N // 2 + 1) / N, rel=1e-3)
  assert found.value.shape == found.censored.shape == ()
  # One diverged run is enough, in each draw that has it.
  losses[0] = np.inf
  draws = losses[np.asarray([[0, 1, 2], [2, 2, 2]])]
  found = speedup.speed_up(draws, envelope, num_steps=N)
  np.testing.assert_allclose(found.value, [0.0, (N // 2 + 1) / N], rtol=1e-3)


def test_negative_losses_have_a_speed_up():
  steps = np.arange(2 * N) + 0.5
  curve = 1.0 / (1.0 + 0.05 * steps)
  shifted = smoothing.envelope(curve[None, None] - 0.5)
  last = smoothing.last_loss(1.0 / (1.0 + 0.1 * steps[:N]) - 0.5)
  assert last < 0
  found = speedup.speed_up(last[None], shifted, num_steps=N)
  assert found.value == pytest.approx(2.0, rel=1e-3)


def test_an_envelope_that_nobody_runs_is_never_reached():
  diverged = smoothing.envelope(np.full((2, 3, 10), np.inf))
  found = speedup.speed_up(np.ones(1), diverged, num_steps=10)
  assert found.censored


def test_speed_ratio_is_known_and_antisymmetric():
  steps = np.arange(N) + 0.5
  slow = np.asarray([1.0 / (1.0 + a * steps) for a in (0.02, 0.05)])
  fast = np.asarray([1.0 / (1.0 + 2 * a * steps) for a in (0.02, 0.05)])
  np.testing.assert_allclose(speedup.speed_ratio(fast, slow), 2.0, rtol=5e-3)
  np.testing.assert_allclose(speedup.speed_ratio(slow, fast), 0.5, rtol=5e-3)
  np.testing.assert_array_equal(speedup.speed_ratio(slow, slow), 1.0)


def test_speed_ratio_of_diverged_runs():
  good, bad = np.geomspace(1, 0.1, N), np.full(N, np.inf)
  found = speedup.speed_ratio(
    np.asarray([bad, good, bad]), np.asarray([good, bad, bad])
  )
  np.testing.assert_array_equal(found, [0.0, np.inf, 1.0])


@pytest.mark.parametrize("floor", [0.123456, 0.123444])
def test_rounding_does_not_decide_whether_a_floor_is_reached(floor):
  steps = np.arange(1.0, 401.0)
  exact = floor + np.exp(-steps / 10)
  envelope = np.asarray([float(f"{value:.5g}") for value in exact])
  found = speedup.speed_up(exact[[399]], envelope, num_steps=200)
  assert not found.censored and found.value < 1.0
  lower = speedup.speed_up([floor * (1 - 2e-4)], envelope, num_steps=200)
  assert lower.censored and lower.value == 2.0


@pytest.mark.parametrize("spike", [1e6, 1e14, 1e30])
def test_a_spike_is_gone_from_the_mean_once_it_is_behind(spike):
  curve = np.r_[np.ones(5), spike, np.full(300, 1e-3)]
  assert smoothing.last_loss(curve) == pytest.approx(1e-3, rel=1e-12)
  for points in (1, 2, 3, 17, 100):
    for least in (0.0, 3.5):
      curve = np.random.default_rng(points).random(points)
      found = smoothing.smooth(curve, least=least)
      for t in range(1, points + 1):
        since = max(t - max(t / 20, least), 0.0)
        whole = int(since)
        part = (1 - (since - whole)) * curve[whole]
        mean = (part + curve[whole + 1 : t].sum()) / (t - since)
        assert found[t - 1] == pytest.approx(mean, rel=1e-12)


def test_loss_ratio_conventions():
  ours = np.asarray([0.5, 0.0, 0.0, np.nan, np.inf, -1.0, -1.0, 1.0])
  adam = np.asarray([1.0, 0.0, 1.0, 1.0, np.nan, 1.0, -1.0, np.inf])
  np.testing.assert_array_equal(
    ratios.loss_ratio(ours, adam),
    [2.0, 1.0, np.inf, 0.0, 1.0, np.nan, 1.0, np.inf],
  )


def test_who_diverged_has_lost_whatever_the_sign_of_the_other_loss():
  bad, finite = np.full(3, np.inf), np.asarray([-1.0, 0.0, 1.0])
  np.testing.assert_array_equal(ratios.loss_ratio(bad, finite), np.zeros(3))
  np.testing.assert_array_equal(ratios.loss_ratio(finite, bad), bad)


def test_ranks_are_scipys():
  losses = np.random.default_rng(0).integers(-3, 3, size=(20, 6)).astype(float)
  np.testing.assert_array_equal(
    ranking.ranks(losses), scipy.stats.rankdata(losses, axis=1)
  )
  losses[0, :2] = np.nan, np.inf
  assert ranking.ranks(losses)[0, :2].tolist() == [5.5, 5.5]
  np.testing.assert_allclose(
    ranking.average_ranks(losses).sum(), np.arange(1, 7).sum()
  )


def test_profile_of_known_times():
  times = np.asarray(
    [[1.0, 2.0], [4.0, 2.0], [3.0, np.inf], [np.nan, np.inf], [0.0, 0.0]]
  )
  found = profile.profile(times, np.asarray([1.0, 2.0, 1e9]))
  np.testing.assert_allclose(found, [[0.6, 0.4], [0.8, 0.6], [0.8, 0.6]])
