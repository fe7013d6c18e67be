"""Feature maps are unbiased, orthogonal ones too, with known variance."""

import attention_cases as cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flt_lopt.attention import feature_maps, make_feature_map

DIM, DRAWS = 8, 4000
UNBIASED = [
  name
  for name in feature_maps.FEATURE_MAPS.names()
  if feature_maps.FEATURE_MAPS.get(name).softmax_kernel
]


def pair(size, direction):
  """Return x and y with |x + y| = size along a direction."""
  direction = np.asarray(direction, np.float64)
  z = size * direction / np.linalg.norm(direction)
  shift = 0.3 * np.eye(len(z))[0]
  return z / 2 + shift, z / 2 - shift


def estimates(name, x, y, projections=None, **options):
  """Return one estimate of exp(x . y) per head: heads are draws."""
  features = make_feature_map(
    name, num_heads=DRAWS, dim=len(x), num_features=16, **options
  )
  xy = jnp.asarray(np.stack([x, y]), jnp.float32)[None]
  xy = jnp.broadcast_to(xy, (DRAWS, 2, len(x)))
  logs = features.log_features({}, xy, projection=projections)
  phi = np.exp(np.asarray(logs, np.float64))
  return np.sum(phi[:, 0] * phi[:, 1], axis=-1)


def standard_errors(samples, truth):
  """Return the bias in units of its standard error."""
  error = np.std(samples) / np.sqrt(len(samples))
  return abs(np.mean(samples) - truth) / error


@pytest.mark.parametrize("name", UNBIASED)
@pytest.mark.parametrize("direction", [np.ones(DIM), np.eye(DIM)[-1]])
def test_unbiased_within_four_standard_errors(name, direction):
  x, y = pair(1.0, direction)
  assert standard_errors(estimates(name, x, y), np.exp(x @ y)) < 4


def test_without_the_sign_fix_orthogonal_features_are_biased():
  """The same test must fail for a plain QR, along (1, ..., 1)."""
  x, y = pair(1.0, np.ones(DIM))
  results = {}
  for fixed in (True, False):
    rows = feature_maps.draw_projection(
      num_heads=DRAWS, num_features=16, dim=DIM, seed=1, sign_fixed=fixed
    )
    results[fixed] = estimates("favor_plus", x, y, jnp.asarray(rows))
  truth = np.exp(x @ y)
  assert standard_errors(results[True], truth) < 4
  assert standard_errors(results[False], truth) > 20
  assert abs(np.mean(results[False]) / truth - 1) > 0.1


@pytest.mark.parametrize(
  ("name", "factor"), [("favor_plus", 1.0), ("favor_hyperbolic", 0.5)]
)
def test_variance_of_independent_features(name, factor):
  """(1/M) e^{|z|^2} K^2 (1 - e^{-|z|^2}); half of it, per pair, for cosh."""
  x, y = pair(np.sqrt(0.5), np.arange(1.0, DIM + 1))
  draws = estimates(name, x, y, orthogonal=False)
  shrink = 1 - np.exp(-0.5)
  count = 16 if name == "favor_plus" else 8
  variance = np.exp(0.5) * np.exp(2 * x @ y) * shrink / count
  if name == "favor_hyperbolic":
    variance *= factor * shrink
  assert np.var(draws) == pytest.approx(variance, rel=0.1)


def test_orthogonal_rows_reduce_the_variance():
  x, y = pair(1.0, np.arange(1.0, DIM + 1))
  plain = np.var(estimates("favor_plus", x, y, orthogonal=False))
  assert np.var(estimates("favor_plus", x, y)) < 0.97 * plain


def test_favor_plus_plus_beats_favor_plus_at_its_spread():
  x, y = pair(2.0, np.arange(1.0, DIM + 1))
  better = np.var(estimates("favor_plus_plus", x, y, mean_square=4.0))
  assert better < np.var(estimates("favor_plus", x, y))


def test_projection_rows_are_standard_normal_and_orthogonal():
  rows = feature_maps.draw_projection(
    num_heads=500, num_features=20, dim=DIM, seed=3
  )
  assert rows.dtype == np.float32
  again = feature_maps.draw_projection(
    num_heads=500, num_features=20, dim=DIM, seed=3
  )
  np.testing.assert_array_equal(rows, again)
  products = np.einsum("hmd,hnd->hmn", rows[:, :DIM], rows[:, :DIM])
  off = products - np.einsum("hmm->hm", products)[..., None] * np.eye(DIM)
  assert np.abs(off).max() < 1e-4
  flat = rows.reshape(-1, DIM)
  assert np.abs(flat.mean(0)).max() < 4 / np.sqrt(len(flat))
  assert np.abs(np.cov(flat.T) - np.eye(DIM)).max() < 0.07


def test_redraw_gives_fresh_unbiased_projections():
  x, y = pair(1.0, np.ones(DIM))
  features = make_feature_map(
    "favor_plus", num_heads=DRAWS, dim=DIM, num_features=16
  )
  first, second = (features.redraw(jax.random.key(i)) for i in (0, 1))
  assert np.abs(np.asarray(first - second)).max() > 1
  draws = estimates("favor_plus", x, y, first)
  assert standard_errors(draws, np.exp(x @ y)) < 4
  with pytest.raises(ValueError, match="no random projection"):
    make_feature_map("elu", num_heads=1, dim=2).redraw(jax.random.key(0))


def test_learned_features_start_unbiased_and_learn():
  features = make_feature_map(
    "learned", num_heads=DRAWS, dim=DIM, num_features=16
  )
  params = features.init(jax.random.key(0))
  x, y = pair(1.0, np.ones(DIM))
  xy = jnp.broadcast_to(
    jnp.asarray(np.stack([x, y]), jnp.float32), (DRAWS, 2, DIM)
  )
  phi = np.exp(np.asarray(features.log_features(params, xy), np.float64))
  draws = np.sum(phi[:, 0] * phi[:, 1], axis=-1)
  assert standard_errors(draws, np.exp(x @ y)) < 4
  with pytest.raises(ValueError, match="has parameters"):
    features.log_features({}, xy)


@pytest.mark.parametrize("name", ["relu", "elu", "constant"])
def test_maps_are_what_they_say(name):
  options = {"relu": {"num_features": 6}}.get(name, {})
  features = make_feature_map(name, num_heads=1, dim=4, **options)
  x = jax.random.normal(jax.random.key(0), (1, 10, 4))
  phi = jnp.exp(features.log_features({}, x))
  if name == "relu":
    rows = features.redraw(jax.random.key(1))
    phi = jnp.exp(features.log_features({}, x, projection=rows))
    expected = jax.nn.relu(jnp.einsum("hnd,hmd->hnm", x, rows)) + 1e-3
  elif name == "elu":
    expected = jax.nn.elu(x) + 1
  else:
    expected = jnp.ones((1, 10, 1))
  np.testing.assert_allclose(phi, expected, rtol=2e-5, atol=1e-6)


def test_wrong_sizes_are_refused_with_a_remedy():
  with pytest.raises(ValueError, match="use 6"):
    make_feature_map("favor_hyperbolic", num_heads=1, dim=4, num_features=5)
  with pytest.raises(ValueError, match="'relu' for a free number"):
    make_feature_map("elu", num_heads=1, dim=4, num_features=5)
  with pytest.raises(ValueError, match="Did you mean 'favor_plus'"):
    make_feature_map("favor_plu", num_heads=1, dim=4, num_features=5)
  assert cases.VALUE != cases.DIM  # values and keys differ in the tests
