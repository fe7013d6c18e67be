"""The FFT form: Toeplitz products, causality, and its agreement with decay."""

import functools

import attention_cases as cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flt_lopt import attention
from flt_lopt.attention.forms.parallel import fast_length, toeplitz_product


def dense_product(kernel, x):
  """Return the same product in float64 through the matrix."""
  kernel, x = np.asarray(kernel, np.float64), np.asarray(x, np.float64)
  t = np.arange(len(x))
  return kernel[t[:, None] - t[None] + len(x) - 1] @ x


@pytest.mark.parametrize("length", [1, 2, 7, 256, 1024])
def test_fft_equals_the_dense_toeplitz_matrix(length):
  """2e-6 of the largest output for positive data."""
  keys = jax.random.split(jax.random.key(length), 2)
  kernel = jnp.exp(jax.random.normal(keys[0], (2 * length - 1,)))
  x = jnp.exp(jax.random.normal(keys[1], (length, 3)))
  found = toeplitz_product(kernel[:, None], x)
  assert cases.relative(found, dense_product(kernel, x)) < 2e-6


def test_a_wide_table_loses_only_small_outputs():
  """b spans +-15: 2e-6 of the maximum, whatever becomes of the rest."""
  length = 1024
  b = jnp.linspace(-15.0, 15.0, 2 * length - 1)
  x = jnp.exp(jax.random.normal(jax.random.key(0), (length, 1)))
  found = np.asarray(toeplitz_product(jnp.exp(b)[:, None], x))
  exact = dense_product(jnp.exp(b), x)
  assert cases.relative(found, exact) < 2e-6
  large = exact > 1e-3 * exact.max()
  assert np.max(np.abs(found / exact - 1)[large]) < 1e-3


def test_a_future_value_leaks_only_rounding():
  """At most 3e-7 of a future value of 1e4."""
  length, value = 512, 1e4
  lags = jnp.arange(1 - length, length)
  kernel = jnp.where(lags >= 0, jnp.exp(-0.01 * lags), 0.0)[:, None]
  x = jnp.ones((length, 1))
  before = toeplitz_product(kernel, x)
  after = toeplitz_product(kernel, x.at[400:].set(value))
  leak = np.abs(np.asarray(after - before))[:400].max()
  # The outlier stands on a hundred rows: its own sum is what is rounded.
  assert leak <= 3e-7 * float(after.max())


def test_linear_bias_by_fft_is_the_scalar_decay():
  length = 512
  lags = jnp.arange(1 - length, length)
  kernel = jnp.where(lags >= 0, jnp.exp(-0.05 * lags), 0.0)[:, None]
  x = jnp.exp(jax.random.normal(jax.random.key(0), (length, 4)))

  def step(state, row):
    state = jnp.exp(-0.05) * state + row
    return state, state

  _, expected = jax.lax.scan(step, jnp.zeros(4), x)
  assert cases.relative(toeplitz_product(kernel, x), expected) < 2e-6


def test_six_poles_agree_in_all_causal_forms():
  """Over 1024 steps: 5e-5 for the recurrence, 5e-6 for the others."""
  length = 1024
  encoding = attention.make_encoding(
    "flt_damped", num_heads=1, head_dim=1, num_poles=6
  )
  params = encoding.init(jax.random.key(0))
  q, k, v = (
    jax.random.normal(key, (length, 1, 1))
    for key in jax.random.split(jax.random.key(1), 3)
  )

  def outputs(form):
    attend = functools.partial(
      attention.attend, encoding=encoding, causal=True, form=form,
      feature_map="constant", num_features=1,
    )  # fmt: skip
    return jax.jit(attend)(params, q, k, v)

  exact = outputs("dense")
  for form, bound in (("recurrent", 5e-5), ("chunked", 5e-6)):
    assert cases.relative(outputs(form), exact) < bound
  lags = jnp.arange(1 - length, length)
  mask = encoding.mask(params, lags[:, None])
  mass = jnp.where(lags >= 0, jnp.exp(mask.log_mass[:, 0]), 0.0)[:, None]
  top = toeplitz_product(mass * mask.ratio, v[:, 0])
  by_fft = top / toeplitz_product(mass, jnp.ones((length, 1)))
  assert cases.relative(by_fft, exact[:, 0]) < 5e-6


@pytest.mark.parametrize("length", [1, 2, 17, 97, 1000, 99_999])
def test_fast_lengths_are_smooth_and_close(length):
  size = fast_length(length)
  assert length <= size < 1.3 * length + 2
  for prime in (2, 3, 5):
    while size % prime == 0:
      size //= prime
  assert size == 1
