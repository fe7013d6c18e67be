"""The past never sees the future, nor one batch element another."""

import attention_cases as cases
import jax.numpy as jnp
import numpy as np

EVERY = cases.every(cases.CASES)


def causal_forms(encoding):
  return ["dense", *cases.forms_of(encoding, causal=True)]


@EVERY
def test_no_future_token_changes_an_output(case):
  """An outlier at step 13: huge key, value 1e4; steps before stay put."""
  encoding = cases.make(case)
  params = cases.init(encoding)
  q, k, v = cases.tokens()
  when, value = 13, 1e4
  k_out = k.at[:, when:].multiply(9.0)
  v_out = v.at[:, when:].set(value)
  for form in causal_forms(encoding):
    fft = form == "parallel"
    # A causal FFT leaks rounding: about 1e-7 of the future value, divided
    # by the mass of the row; its keys share one scale.
    changed = (q, k if fft else k_out, v_out)
    before, after = (
      cases.attend(encoding, params, *xs, form=form, causal=True)
      for xs in ((q, k, v), changed)
    )
    leak = np.abs(np.asarray(after - before))[:, :when].max()
    assert leak <= (3e-4 * value if fft else 0.0), (form, leak)
    assert np.abs(np.asarray(after - before))[:, when:].max() > 0.1


@EVERY
def test_no_batch_element_changes_another(case):
  encoding = cases.make(case)
  params = cases.init(encoding)
  q, k, v = cases.tokens()
  k_out = k.at[1].multiply(9.0)
  for causal in (True, False):
    for form in ("dense", *cases.forms_of(encoding, causal=causal)):
      before, after = (
        cases.attend(encoding, params, q, x, v, form=form, causal=causal)
        for x in (k, k_out)
      )
      # FFTs of several columns may be computed together.
      np.testing.assert_allclose(after[0], before[0], rtol=0, atol=1e-5)
      if form != "parallel":
        np.testing.assert_array_equal(after[0], before[0])


@EVERY
def test_outlier_key_leaves_no_trace_where_it_is_masked(case):
  """A NaN key and value that is masked out is never looked at."""
  encoding = cases.make(case)
  params = cases.init(encoding)
  q, k, v = cases.tokens()
  mask = jnp.ones((cases.BATCH, cases.LENGTH), bool).at[:, 5].set(False)
  for causal in (True, False):
    for form in ("dense", *cases.forms_of(encoding, causal=causal)):
      dirty_tokens = q, k.at[:, 5].set(jnp.nan), v.at[:, 5].set(jnp.nan)
      clean, dirty = (
        cases.attend(
          encoding, params, *xs, form=form, causal=causal, key_mask=mask
        )
        for xs in ((q, k, v), dirty_tokens)
      )
      np.testing.assert_array_equal(dirty, clean)
