"""Rank shaping: what it keeps of the gradient, and what it gives up.

Statistical comparisons allow four standard errors of 100,000 episodes.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from estimator_problems import Slope, Walk, estimates

from meta_train.errors import UserError
from meta_train.estimators import make_estimator
from meta_train.estimators.shaping import SHAPINGS

SAMPLES = 100_000
ORIGIN = jnp.zeros(3)
RANK = SHAPINGS["rank"]


def sampled(problem, theta, sigma, *, samples=SAMPLES, **options):
  name = "pes" if problem.max_horizon > 1 else "es_single"
  estimator = make_estimator(name, problem, problem.num_theta, sigma, **options)
  calls = problem.max_horizon
  found, _ = estimates(estimator, theta, samples=samples, calls=calls)
  return np.asarray(found.gradient, np.float64).mean(axis=1)


def error_of(found):
  return found.std(axis=0) / np.sqrt(len(found))


@pytest.mark.parametrize("sigma", [0.1, np.float32([0.1, 0.02, 0.3])])
def test_one_pair_gives_the_direction_of_a_linear_loss(sigma):
  found = sampled(Slope(), ORIGIN, sigma, shaping="rank")
  spread = np.broadcast_to(sigma, 3)
  want = np.sqrt(np.mean(spread**2)) * Slope.slope
  want /= np.linalg.norm(spread * Slope.slope)
  assert np.all(np.abs(found.mean(axis=0) - want) < 4 * error_of(found))
  assert np.max(np.abs(found.mean(axis=0)) / error_of(found)) > 20


def test_several_pairs_keep_the_direction_with_less_variance():
  one = sampled(Slope(), ORIGIN, 0.1, shaping="rank")
  four = sampled(Slope(), ORIGIN, 0.1, shaping="rank", num_pairs=4)
  along = Slope.slope / np.linalg.norm(Slope.slope)
  across = four - np.outer(four @ along, along)
  assert np.all(np.abs(across.mean(axis=0)) < 4 * error_of(across))
  assert (four @ along).mean() > 100 * error_of(four @ along)
  relative = [x.std() / x.mean() for x in (one @ along, four @ along)]
  assert relative[1] < 0.6 * relative[0]


def test_the_scale_of_a_loss_does_not_matter():
  one, other = (
    sampled(Slope(scale), ORIGIN, 0.1, samples=50, shaping="rank", num_pairs=3)
    for scale in (1.0, 1024.0)
  )
  np.testing.assert_allclose(one, other, rtol=1e-5)


def test_it_is_biased_where_the_loss_is_curved_and_unshaped_is_not():
  theta, sigma = jnp.array([-0.2, 0.1]), 0.3
  want = Walk().smoothed(theta, sigma, 1)
  plain = sampled(Walk(), theta, sigma)
  assert np.all(np.abs(plain.mean(axis=0) - want) < 4 * error_of(plain))
  # Close to the gradient in direction, but not it, nor parallel to it.
  ranked = sampled(Walk(), theta, sigma, shaping="rank")
  mean, along = ranked.mean(axis=0), want / np.linalg.norm(want)
  assert mean @ along > 0.95 * np.linalg.norm(mean)
  across = ranked @ np.array([-along[1], along[0]])
  assert abs(across.mean()) > 6 * error_of(across)


def test_ranks_are_of_sizes_with_signs_and_ties_share():
  unit = np.sqrt(2 * np.pi) * 0.5
  for differences, ranks in [
    ([-3.0, 1.0, 2.0], [-3, 1, 2]),
    ([1e30, 1.0, -2.0], [3, 1, -2]),
    ([2.0, -2.0, 5.0], [1.5, -1.5, 3]),
    ([0.0, 0.0, 0.0], [0, 0, 0]),
  ]:
    found = RANK(jnp.array(differences), 0.5)
    np.testing.assert_allclose(found, unit * np.array(ranks) / 2, rtol=1e-6)


def test_unknown_and_unused_shapings_are_refused():
  with pytest.raises(UserError, match=r"rnak is unknown.*did you mean rank"):
    make_estimator("pes", Slope(), 3, 0.1, shaping="rnak")
  with pytest.raises(UserError, match=r"shaping=rank does nothing.*at none"):
    make_estimator("full_grad", Slope(), 3, 0.1, shaping="rank")
