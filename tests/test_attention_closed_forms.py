"""Encodings against the closed forms of what they approximate."""

import functools

import attention_cases as cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

from flt_lopt import attention
from flt_lopt.attention.encodings.base import Poles, poles_to_mask

LAGS = jnp.linspace(-1.0, 1.0, 41)[:, None]


@functools.partial(jax.jit, static_argnums=0)
def lines_of(encoding, params, lags):
  """Return f from the lines, compiled."""
  return encoding.spectrum_bias(params, lags)


def draws_of_f(encoding, params, lags):
  """Return f from the lines, heads being independent draws."""
  return np.asarray(lines_of(encoding, params, lags), np.float64).T


def mixture(heads, coord_dim, **options):
  """Return a Monte-Carlo FLT whose heads share one mixture."""
  encoding = attention.make_encoding(
    "flt", num_heads=heads, head_dim=1, coord_dim=coord_dim,
    num_components=2, sampling="monte_carlo", **options,
  )  # fmt: skip
  mean = np.zeros((2, coord_dim))
  mean[0, 0], mean[1, -1] = 0.3, -0.6
  one = {
    "weight": np.array([0.8, -0.5]),
    "mean": mean,
    "width": np.array([-1.6, -1.0]),
  }
  params = {
    k: jnp.asarray(np.broadcast_to(x, (heads, *x.shape)), jnp.float32)
    for k, x in one.items()
  }
  return encoding, params


@pytest.mark.parametrize("coord_dim", [1, 2, 3])
def test_flt_is_unbiased_within_four_standard_errors(coord_dim):
  """Mixed signs, the d-dimensional density, the ratio used once."""
  encoding, params = mixture(2000, coord_dim, num_lines=64)
  for lag in (0.0, 0.15, 0.4):
    lags = jnp.full((1, coord_dim), lag)
    draws = draws_of_f(encoding, params, lags)[:, 0]
    truth = float(encoding.closed_form(params, lags)[0, 0])
    error = np.std(draws) / np.sqrt(len(draws))
    assert abs(draws.mean() - truth) < 4 * error
    assert error < 0.1


def test_flt_error_falls_as_the_root_of_the_lines():
  lags = jnp.array([[0.25]])
  scaled = []
  for count in (64, 256, 1024):
    encoding, params = mixture(1000, 1, num_lines=count)
    draws = draws_of_f(encoding, params, lags)[:, 0]
    truth = float(encoding.closed_form(params, lags)[0, 0])
    scaled.append(np.sqrt(np.mean((draws - truth) ** 2) * count))
  assert max(scaled) / min(scaled) < 1.15


def test_features_reproduce_the_lines():
  """q' . k' = q . k / sqrt(D) + f(r_t - r_j), whatever the signs."""
  for case in [("flt", {"sampling": "monte_carlo"}), ("flt_lines", {})]:
    encoding = cases.make(case, coord_dim=2)
    params = cases.init(encoding)
    q, k, _ = (jnp.moveaxis(x, -2, -3) for x in cases.tokens())
    positions = jax.random.uniform(jax.random.key(2), (cases.LENGTH, 2))
    lags = positions[:, None] - positions[None]
    found = jnp.einsum(
      "...nd,...md->...nm",
      encoding.queries(params, q, positions),
      encoding.keys(params, k, positions),
    )
    content = jnp.einsum("...nd,...md->...nm", q, k) / cases.DIM**0.5
    f = jnp.moveaxis(encoding.spectrum_bias(params, lags), -1, -3)
    assert cases.relative(found, content + f) < 2e-6


def test_gauss_hermite_equals_the_closed_form():
  """1e-6 within |lag| <= 1 with 32 nodes per component of width < 0.3."""
  encoding = cases.make(
    ("flt", {"sampling": "gauss_hermite", "num_lines": 64}),
    num_components=2,
  )
  params = cases.init(encoding)
  params["width"] = jnp.full((cases.HEADS, 2), -2.3)
  lines = encoding.spectrum_bias(params, LAGS)
  exact = encoding.closed_form(params, LAGS)
  assert np.abs(np.asarray(lines - exact)).max() < 1e-6


def test_reparametrised_lines_are_exact_at_lag_zero():
  encoding = cases.make(("flt", {}), coord_dim=2)
  params = cases.init(encoding)
  zero = jnp.zeros((1, 2))
  lines = encoding.spectrum_bias(params, zero)
  np.testing.assert_allclose(
    lines, encoding.closed_form(params, zero), rtol=1e-6
  )


def test_tapered_box_equals_the_error_functions():
  grid = attention.make_encoding(
    "flt_local", num_heads=1, head_dim=1, num_lines=40
  )
  params = grid.init(jax.random.key(0))
  lines = grid.spectrum_bias(params, LAGS)
  exact = grid.closed_form(params, LAGS)
  assert np.abs(np.asarray(lines - exact)).max() < 1e-5
  assert float(exact[20, 0]) > 0.98  # a box: 1 inside,
  assert float(exact[0, 0]) < 1e-6  # 0 outside.


@pytest.mark.parametrize("coord_dim", [1, 2])
def test_sampled_tapered_box_is_unbiased(coord_dim):
  encoding = attention.make_encoding(
    "flt_local", num_heads=400, head_dim=1, coord_dim=coord_dim,
    num_lines=1024, sampling="monte_carlo",
  )  # fmt: skip
  one = encoding.init(jax.random.key(0))
  params = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), one)
  lags = jnp.stack([jnp.linspace(0, 0.5, 6)] * coord_dim, axis=-1)
  draws = draws_of_f(encoding, params, lags)
  exact = np.asarray(encoding.closed_form(params, lags))[:, 0]
  error = draws.std(axis=0) / np.sqrt(len(draws))
  assert np.all(np.abs(draws.mean(axis=0) - exact) < 4 * error + 1e-6)
  if coord_dim == 1:
    assert draws.std(axis=0).max() < 4 * 0.05


def test_a_real_pole_is_a_lorentzian():
  """The integral of 2a / (a^2 + (2 pi xi)^2) cos(2 pi xi D) is e^{-a|D|}."""
  rate = 0.3
  for lag in (0.0, 1.0, 4.0):
    poles = Poles(jnp.full((1, 1, 1), rate), jnp.ones((1, 1)))
    mask = poles_to_mask(poles, jnp.array([[lag]]))
    h = float(jnp.exp(mask.log_mass[0, 0]) * mask.ratio[0, 0])
    assert h == pytest.approx(np.exp(-rate * lag), rel=1e-6)
    if lag == 0.0:
      integral = 2 * np.arctan(np.inf) / np.pi
    else:

      def spectrum(xi):
        return 4 * rate / (rate**2 + (2 * np.pi * xi) ** 2)

      integral, _ = integrate.quad(
        spectrum, 0, np.inf, weight="cos", wvar=2 * np.pi * lag, epsabs=1e-10
      )
    assert integral == pytest.approx(np.exp(-rate * lag), abs=1e-8)


def test_gqpe_is_the_normalised_gaussian():
  encoding = attention.make_encoding("posgu", num_heads=1, head_dim=1)
  params = {"root": jnp.array([[[0.7]]]), "centre": jnp.array([[0.4]])}
  length = 12
  t = np.arange(length)
  lag = t[:, None] - t[None] - 0.4
  gaussian = np.exp(-0.5 * (0.7 * lag) ** 2)
  expected = gaussian / gaussian.sum(axis=1, keepdims=True)
  ones = jnp.ones((length, 1, 1))
  for form in ("dense", "parallel"):
    found = cases.attend(
      encoding,
      params,
      ones,
      ones,
      jnp.eye(length)[:, None, :],
      form=form,
      causal=False,
      feature_map="constant",
      num_features=1,
    )
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-6)


def test_lrpe_is_a_signed_filter():
  encoding = attention.make_encoding(
    "posgu_lrpe", num_heads=1, head_dim=1, max_lag=3
  )
  table = jnp.array([[0.5, -1.0, 0.0, 2.0, -0.3, 0.7, 1.5]])
  length = 9
  t = np.arange(length)
  lag = t[:, None] - t[None]
  expected = np.where(
    np.abs(lag) <= 3, np.asarray(table)[0, np.clip(lag, -3, 3) + 3], 0.0
  )
  ones = jnp.ones((length, 1, 1))
  for form, causal in (
    ("dense", False),
    ("parallel", False),
    ("recurrent", True),
  ):
    found = cases.attend(
      encoding,
      {"table": table},
      ones,
      ones,
      jnp.eye(length)[:, None, :],
      form=form,
      causal=causal,
      feature_map="constant",
      num_features=1,
    )
    expected_here = np.tril(expected) if causal else expected
    np.testing.assert_allclose(found[:, 0], expected_here, atol=2e-6)


def test_hype_tends_to_alibi():
  """Relative (mu D)^2 / 6 within 10 %, plus the rounding 1e-7 tau."""
  encoding = attention.make_encoding("hype", num_heads=1, head_dim=1)
  slope, lag = 0.5, 10.0
  for product in (0.25, 0.1, 0.01):
    mu = product / lag
    params = {
      "log_mu": jnp.log(jnp.array([mu])),
      "log_slope": jnp.log(jnp.array([slope])),
    }
    f = float(encoding.mask(params, jnp.array([[lag]])).log_mass[0, 0])
    excess = -f / (slope * lag) - 1
    allowed = 0.1 * product**2 / 6 + 1e-7 * slope / mu
    assert abs(excess - product**2 / 6) < allowed
    query, key = encoding.factors(params, jnp.array([[3.0], [13.0]]))
    assert float(query[0, 1] @ key[0, 0]) == pytest.approx(f, rel=1e-4)


@pytest.mark.parametrize("name", ["sine_spe", "conv_spe"])
def test_stochastic_covariance(name):
  """q' . k' tends to sum_d q_d k_d P_d / sqrt(D), error 4 / sqrt(R)."""
  count = 4096
  options = {"num_realisations": count}
  encoding = attention.make_encoding(name, num_heads=1, head_dim=2, **options)
  params = encoding.init(jax.random.key(4))
  if name == "sine_spe":
    params["frequency"] = params["frequency"] + 2.0  # within the lags seen
  lags = jnp.arange(12, dtype=jnp.int32)[:, None]
  covariance = np.asarray(encoding.covariance(params, lags))[:, 0]
  for d in range(2):
    unit = jnp.eye(2)[d] * jnp.ones((1, 12, 2))
    q = encoding.queries(params, unit, lags)
    k = encoding.keys(params, unit, lags[:1] * 0)[:, :1]
    found = np.asarray(jnp.einsum("hnr,hmr->n", q, k[:, :1])) * 2**0.5
    assert np.abs(found - covariance[:, d]).max() < 4 / np.sqrt(count) * 2
  assert np.ptp(covariance) > 0.1  # position matters


def test_conv_spe_covariance_ends_with_the_filters():
  encoding = attention.make_encoding(
    "conv_spe", num_heads=2, head_dim=3, num_taps=4, gated=False
  )
  params = encoding.init(jax.random.key(0))
  lags = jnp.arange(-6, 7, dtype=jnp.int32)[:, None]
  covariance = np.asarray(encoding.position_covariance(params, lags))
  query, key = params["query_filter"][1, 2], params["key_filter"][1, 2]
  expected = np.correlate(query, key, mode="full")  # lags -3 ... 3
  np.testing.assert_allclose(covariance[3:10, 1, 2], expected, atol=1e-6)
  assert np.abs(covariance[:3]).max() == 0 == np.abs(covariance[10:]).max()


@pytest.mark.parametrize(
  "case", [("flt", {}), ("flt_lines", {}), ("rope", {})], ids=cases.case_id
)
def test_shifts_of_integer_steps_leave_logits_alone(case):
  """Phases are reduced exactly: 2e-6 for any shift below 2^31."""
  encoding = cases.make(case)
  params = cases.init(encoding)
  q, k, _ = (jnp.moveaxis(x, -2, -3) for x in cases.tokens())

  @jax.jit
  def logits(shift):
    steps = (jnp.arange(cases.LENGTH, dtype=jnp.int32) + shift)[:, None]
    return jnp.einsum(
      "...nd,...md->...nm",
      encoding.queries(params, q, steps),
      encoding.keys(params, k, steps),
    )

  reference = logits(jnp.int32(0))
  for shift in (10, 10_000, 10_000_019, 2**31 - 100):
    assert cases.relative(logits(jnp.int32(shift)), reference) < 2e-6


def test_shift_error_of_real_coordinates_is_the_stated_one():
  encoding = cases.make(("flt_lines", {}))
  params = cases.init(encoding)
  q, k, _ = (jnp.moveaxis(x, -2, -3) for x in cases.tokens())
  r = jnp.linspace(0, 1, cases.LENGTH)[:, None]

  def logits(shift):
    return jnp.einsum(
      "...nd,...md->...nm",
      encoding.queries(params, q, r + shift),
      encoding.keys(params, k, r + shift),
    )

  reference = logits(0.0)
  for shift in (10.0, 1000.0):
    bound = 4 * 2.0**-23 * 2 * np.pi * 0.5 * shift + 2e-6
    assert np.abs(np.asarray(logits(shift) - reference)).max() < bound


def test_phase_gradient_is_straight_through():
  from flt_lopt.attention.numerics import cos_sin, phase

  steps = jnp.array([[99_991], [3]], jnp.int32)
  frequency = jnp.full((1, 1, 1), 0.123)
  gradient = jax.jacobian(lambda f: phase(f, steps)[..., 0, 0])(frequency)
  np.testing.assert_allclose(gradient.ravel(), [99_991.0, 3.0], rtol=2e-7)
  turns = jnp.linspace(-3, 3, 10_001)
  exact = 2 * np.pi * np.asarray(turns, np.float64)
  cos, sin = cos_sin(turns)
  assert np.abs(cos - np.cos(exact)).max() < 3e-7
  assert np.abs(sin - np.sin(exact)).max() < 3e-7
