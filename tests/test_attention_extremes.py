"""Extreme inputs give finite numbers, or the documented error."""

import attention_cases as cases
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from flt_lopt import attention

EVERY = cases.every(cases.FIRST_CASES)


def all_forms(encoding):
  """Yield every form and direction of an encoding."""
  for causal in (True, False):
    yield "dense", causal
    for form in cases.forms_of(encoding, causal=causal):
      yield form, causal


@EVERY
def test_logits_of_ten_thousand_are_finite(case):
  """q . k / sqrt(D) up to 1e4 in size, both signs."""
  encoding = cases.make(case)
  params = cases.init(encoding)
  q, k, v = cases.tokens(scale=100.0)
  for form, causal in all_forms(encoding):
    out = cases.attend(encoding, params, q, k, v, form=form, causal=causal)
    assert np.all(np.isfinite(out)), (form, causal)
    # Nor do they underflow to nothing: a row with keys has an output.
    nonzero = np.all(np.any(np.asarray(out) != 0, axis=-1))
    assert nonzero or not encoding.normalised, (form, causal)


@EVERY
def test_rows_without_keys_are_zero(case):
  encoding = cases.make(case)
  params = cases.init(encoding)
  q, k, v = cases.tokens()
  mask = jnp.ones((cases.BATCH, cases.LENGTH), bool).at[1].set(False)
  for form, causal in all_forms(encoding):
    out = cases.attend(
      encoding, params, q, k, v, form=form, causal=causal, key_mask=mask
    )
    np.testing.assert_array_equal(out[1], 0)
    assert np.all(np.isfinite(out))


@cases.every(
  cases.FIRST_CASES, quick=("none", "flt_damped", "nprf", "flt_local_exact")
)
def test_lengths_zero_and_one(case):
  encoding = cases.make(case)
  params = cases.init(encoding)
  for form, causal in all_forms(encoding):
    q, k, v = cases.tokens(length=0)
    out = cases.attend(encoding, params, q, k, v, form=form, causal=causal)
    assert out.shape == v.shape
    q, k, v = cases.tokens(length=1)
    out = cases.attend(encoding, params, q, k, v, form=form, causal=causal)
    expected = v
    lag = encoding.mask(params, jnp.zeros((1, 1), jnp.int32))
    if lag is not None:
      expected = v if lag.ratio is None else v * lag.ratio[0][:, None]
    if encoding.normalised:
      np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["flt", "flt_lines", "flt_local"])
def test_one_line_one_feature(name):
  """m = 1 and M = 1 are legal."""
  options = {"num_lines": 1}
  if name == "flt":
    options["num_components"] = 1
  encoding = cases.make((name, options))
  params = cases.init(encoding)
  q, k, v = cases.tokens()
  outs = [
    cases.attend(
      encoding, params, q, k, v, form=form, causal=True, num_features=1
    )
    for form in ("dense", "recurrent")
  ]
  assert np.all(np.isfinite(outs[0]))
  assert cases.relative(outs[1], outs[0]) < 2e-6


@EVERY
def test_gradients_are_finite_and_nonzero_at_initialisation(case):
  """Every spectrum parameter, from the init itself, in streams or dense."""
  encoding = cases.make(case)
  feature_map = cases.feature_map_of(encoding)
  params = cases.start(encoding)
  if not params:
    return
  q, k, v = cases.tokens()
  target = jax.random.normal(jax.random.key(7), v.shape)
  form = "chunked" if "chunked" in encoding.forms else "dense"

  def loss(params):
    out = attention.attend(
      params,
      q,
      k,
      v,
      encoding=encoding,
      form=form,
      causal=form != "dense",
      feature_map=feature_map,
      num_features=16,
    )
    return jnp.sum(out * target)

  gradient = jax.jit(jax.grad(loss), compiler_options=cases.QUICK)(params)
  for name, leaf in gradient.items():
    leaf = np.asarray(leaf)
    assert np.all(np.isfinite(leaf)), name
    if name in ("table", "vectors"):  # lags beyond those that occur
      assert np.mean(leaf != 0) > 0.4, name
    else:
      assert np.all(leaf != 0), name


@pytest.mark.parametrize("name", ["flt", "flt_lines", "flt_damped", "sine_spe"])
def test_components_stay_distinguishable_in_training(name):
  """A short fit of two bumps: the loss falls, no two components coincide."""
  options = {
    "flt": {"num_components": 4, "coordinate_scale": 1 / 16},
    "flt_lines": {"num_lines": 4},
    "flt_damped": {"num_poles": 4, "horizon": 20.0},
    "sine_spe": {"num_sines": 4},
  }[name]
  encoding = attention.make_encoding(name, num_heads=1, head_dim=2, **options)
  lags = jnp.arange(16, dtype=jnp.int32)[:, None]
  target = jnp.exp(-0.3 * lags[:, 0]) * jnp.cos(0.9 * lags[:, 0])

  def kernel(params):
    if name == "sine_spe":
      return encoding.covariance(params, lags)[:, 0, 0]
    if name == "flt_damped":
      mask = encoding.mask(params, lags)
      return (jnp.exp(mask.log_mass) * mask.ratio)[:, 0]
    return encoding.spectrum_bias(params, lags)[:, 0]

  @jax.jit
  def loss(flat):
    return jnp.mean((kernel(unravel(flat)) - target) ** 2)

  flat, unravel = jax.flatten_util.ravel_pytree(
    encoding.init(jax.random.key(0))
  )

  @jax.jit
  def train(flat):
    def step(carry, _):
      flat, mean, square = carry
      g = jax.grad(loss)(flat)
      mean, square = 0.9 * mean + 0.1 * g, 0.99 * square + 0.01 * g * g
      return (flat - 0.03 * mean / (jnp.sqrt(square) + 1e-8), mean, square), 0

    zero = jnp.zeros_like(flat)
    return jax.lax.scan(step, (flat, zero, zero), length=300)[0][0]

  trained = train(flat)
  assert loss(trained) < 0.3 * loss(flat)
  params = unravel(trained)
  where = {"flt": "mean"}.get(name, "frequency")
  places = np.asarray(params[where])[0].reshape(-1, 4)[0]
  gaps = np.abs(places[:, None] - places[None]) + np.eye(4)
  assert gaps.min() > 1e-3


def test_heads_start_different():
  for case in cases.FIRST_CASES:
    encoding = cases.make(case)
    params = cases.start(encoding)
    if params and case[0] not in ("rope", "hype"):
      assert any(
        not np.allclose(x[0], x[1]) for x in jax.tree.leaves(params)
      ), case
