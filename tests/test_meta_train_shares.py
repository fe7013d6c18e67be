"""Shares of devices join to one gradient, with an honest error."""

import jax
import numpy as np
import pytest

from meta_train.engine import shares
from meta_train.estimators import Estimate

DEVICES, FAMILIES, TASKS, THETA = 2, 3, 4, 5
#: Family f has this mean gradient in every meta-parameter.
MEANS = np.array([-1.0, 0.5, 2.0])


def drawn(repeats, scale=1.0, seed=0):
  """Estimates of all tasks: [repeats, families, devices * tasks, theta]."""
  rng = np.random.default_rng(seed)
  shape = (repeats, FAMILIES, DEVICES * TASKS, THETA)
  noise = rng.normal(size=shape).astype(np.float32)
  return scale * noise + np.float32(MEANS)[:, None, None]


def joined(gradients, limit=0.0, **options):
  """Shares of two devices, joined."""
  rows = []
  for device in range(DEVICES):
    mine = gradients[:, device * TASKS : (device + 1) * TASKS]
    ones = np.ones(TASKS, np.float32)
    rows.append(
      shares.share(
        [Estimate(g, ones * f, ones * (f == 2)) for f, g in enumerate(mine)],
        limit,
      )
    )
  gathered = jax.tree.map(lambda *xs: np.concatenate(xs), *rows)
  return shares.join(gathered, num_tasks=DEVICES * TASKS, **options)


def test_families_are_averaged_alike_and_told_apart():
  gradients = drawn(1)[0]
  found = joined(gradients)
  np.testing.assert_allclose(
    found.gradient, gradients.mean(axis=(0, 1)), rtol=1e-5, atol=1e-6
  )
  assert found.losses == (0.0, 1.0, 2.0) and found.diverged == (0.0, 0.0, 1.0)
  # Families of very different means add nothing to the variance.
  spread = gradients.var(axis=1, ddof=1).sum() / (DEVICES * TASKS * FAMILIES**2)
  np.testing.assert_allclose(found.variance, spread, rtol=1e-4)
  square = np.square(found.gradient).sum()
  np.testing.assert_allclose(found.snr, square / spread - 1, rtol=1e-4)


def test_the_variance_is_that_of_the_gradient_and_its_power_is_corrected():
  """Means over 2,000 outer steps, within 4 standard errors."""
  results = [joined(g) for g in drawn(2000)]
  gradient = np.array([r.gradient for r in results], np.float64)
  expected = MEANS.mean()
  true = np.square(gradient - expected).sum(axis=1)
  claimed = np.array([r.variance for r in results])
  error = np.std(claimed - true) / np.sqrt(len(results))
  assert abs(np.mean(claimed - true)) < 4 * error
  # |g|**2 - variance is without bias for |E g|**2, as the ratio promises.
  power = np.square(gradient).sum(axis=1) - claimed
  error = np.std(power) / np.sqrt(len(results))
  assert abs(power.mean() - THETA * expected**2) < 4 * error
  assert power.mean() > 20 * error


def test_balanced_families_count_alike_whatever_their_size():
  gradients = drawn(1)[0]
  sizes = np.sqrt(np.square(gradients).sum(axis=2).mean(axis=1))
  expected = (gradients.mean(axis=1) / sizes[:, None]).mean(axis=0)
  found = joined(gradients, balanced=True)
  np.testing.assert_allclose(found.gradient, expected, rtol=1e-5, atol=1e-6)
  one = joined(gradients / sizes[:, None, None])
  np.testing.assert_allclose(found.variance, one.variance, rtol=1e-4)
  grown = gradients * np.float32([1e3, 1.0, 1e-3])[:, None, None]
  again = joined(grown, balanced=True)
  np.testing.assert_allclose(again.gradient, found.gradient, rtol=1e-4)
  np.testing.assert_allclose(again.snr, found.snr, rtol=1e-3)
  assert again.losses == found.losses
  # One that is silent stays so, and one that is broken is not hidden.
  silent = joined(gradients * [[[0.0]], [[1.0]], [[1.0]]], balanced=True)
  assert np.all(np.isfinite(silent.gradient))
  broken = joined(gradients * [[[np.inf]], [[1.0]], [[1.0]]], balanced=True)
  assert not np.any(np.isfinite(broken.gradient))


def test_a_limit_shortens_estimates_however_long_and_counts_them():
  gradients = drawn(1)[0]
  norms = np.linalg.norm(gradients, axis=2, keepdims=True)
  limit = float(np.median(norms))
  expected = gradients * np.minimum(1.0, limit / norms)
  found = joined(gradients, limit)
  np.testing.assert_allclose(
    found.gradient, expected.mean(axis=(0, 1)), rtol=1e-4, atol=1e-6
  )
  assert found.limited == pytest.approx(np.mean(norms > limit))
  # The squares of such estimates leave float32.
  huge = np.where(norms > limit, np.float32(1e30), np.float32(1.0)) * gradients
  again = joined(huge, limit)
  np.testing.assert_allclose(again.gradient, found.gradient, rtol=1e-4)
  same = joined(gradients, float(norms.max()) * 1.01)
  np.testing.assert_array_equal(same.gradient, joined(gradients).gradient)
  assert same.limited == 0.0
  broken = joined(gradients * [[[np.inf]], [[1.0]], [[1.0]]], limit)
  assert not np.any(np.isfinite(broken.gradient))
  one = Estimate(gradients[0], *np.zeros((2, DEVICES * TASKS)), np.eye(8)[0])
  assert shares.share([one]).limited == pytest.approx(1 / 8)
  silent = joined(np.zeros_like(gradients), limit)
  assert np.all(silent.gradient == 0.0) and silent.limited == 0.0


def test_the_edges_have_answers():
  same = joined(drawn(1, scale=0.0)[0])
  assert same.variance == pytest.approx(0.0, abs=1e-6) and same.snr > 1e5
  nothing = joined(np.zeros((FAMILIES, DEVICES * TASKS, THETA), np.float32))
  assert nothing.variance == 0.0 and nothing.snr == 0.0
  one = shares.share(
    [Estimate(np.ones((1, THETA), np.float32), np.ones(1), np.zeros(1))]
  )
  alone = shares.join(jax.device_get(one), num_tasks=1)
  assert np.isnan(alone.variance) and np.isnan(alone.snr)
