"""Poles fitted to a mask: the error reached, and a stream with it."""

import attention_cases as cases
import jax.numpy as jnp
import numpy as np
import pytest

from flt_lopt import attention

T = np.arange(2000)
# Mask, real floats of state, largest relative l2 error.
TARGETS = {
  "ema": (0.9**T, 1, 1e-10),
  "two_emas": (0.9**T + 0.999**T, 2, 1e-10),
  "oscillation": (0.98**T * np.cos(0.1 * np.pi * T), 2, 1e-10),
  "alternating": ((-0.9) ** T, 1, 1e-10),
  "uniform": (np.ones(2000), 1, 2e-3),
  "power_law": ((1.0 + T) ** -1.5, 4, 0.02),
  "gaussian": (np.exp(-0.5 * (T / 100) ** 2), 4, 1e-3),
  "box": ((T < 100) * 1.0, 8, 0.2),
}


@pytest.mark.parametrize("name", TARGETS)
def test_error_against_the_best_known(name):
  mask, floats, bound = TARGETS[name]
  fit = attention.fit_poles(mask, num_floats=floats)
  assert fit.relative_error.max() < bound
  assert fit.state_floats.max() <= floats
  assert np.all(fit.decay > 0)


def test_more_poles_fit_better():
  mask = (1.0 + T) ** -0.7
  errors = [
    attention.fit_poles(mask, num_floats=n).relative_error[0] for n in (2, 4, 8)
  ]
  assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_a_fitted_table_streams():
  """NPRF's causal table as poles: the recurrence equals the FFT."""
  t = np.arange(cases.LENGTH)
  h = np.stack([0.8**t + 0.3 * 0.5**t * np.cos(t), 0.6**t])
  fit = attention.fit_poles(h, num_floats=3)
  assert fit.relative_error.max() < 1e-6
  streaming, params = fit.encoding(head_dim=cases.DIM)
  mask = streaming.mask(params, jnp.asarray(t, jnp.int32)[:, None])
  found = np.asarray(jnp.exp(mask.log_mass) * mask.ratio).T
  np.testing.assert_allclose(found, h, atol=2e-6)
  q, k, v = cases.tokens()
  outs = [
    cases.attend(streaming, params, q, k, v, form=form, causal=True)
    for form in ("dense", "recurrent")
  ]
  assert cases.relative(outs[1], outs[0]) < 2e-6


def test_bad_masks_are_refused():
  with pytest.raises(ValueError, match="at most 5"):
    attention.fit_poles(np.ones(10), num_floats=6)
  with pytest.raises(ValueError, match="not finite"):
    attention.fit_poles(np.array([1.0, np.nan] * 8), num_floats=1)
