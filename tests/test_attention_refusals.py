"""What can't be is refused, with an error that names the alternative."""

import attention_cases as cases
import jax.numpy as jnp
import pytest

from flt_lopt import attention


@pytest.mark.parametrize(
  ("case", "form", "causal", "says"),
  [
    (("nprf", {}), "recurrent", True, "fit_poles"),
    (("nprf", {}), "chunked", True, "flt_damped"),
    (("posgu", {}), "recurrent", True, "fit_poles"),
    (("hype", {}), "recurrent", True, "alibi"),
    (("hype", {}), "chunked", True, "overflow"),
    (("shaw", {}), "parallel", False, "nprf"),
    (("none", {}), "parallel", True, "form='chunked'"),
    (("flt_lines", {}), "recurrent", False, "form='parallel'"),
    (("none", {}), "chunkd", True, "Did you mean 'chunked'"),
  ],
)
def test_forms(case, form, causal, says):
  encoding = cases.make(case)
  params = cases.init(encoding)
  with pytest.raises(ValueError, match=says):
    attention.attend(
      params, *cases.tokens(), encoding=encoding, form=form, causal=causal
    )


@pytest.mark.parametrize("case", cases.FIRST_CASES, ids=cases.case_id)
def test_every_missing_form_names_another(case):
  encoding = cases.make(case)
  missing = set(attention.FORMS) - encoding.forms
  for form in missing:
    with pytest.raises(ValueError) as error:
      attention.attend(
        {}, *cases.tokens(), encoding=encoding, form=form, causal=True
      )
    assert "use form=" in str(error.value)
  if "recurrent" in missing:
    with pytest.raises(ValueError, match="no recurrent form"):
      attention.StreamingAttention(encoding=encoding, value_dim=4)


def test_lists_of_encodings():
  everything = attention.list_encodings()
  streaming = attention.list_encodings(form="recurrent")
  assert everything == attention.ENCODINGS.names()
  assert {"flt", "alibi", "flt_damped"} <= set(streaming) < set(everything)


def test_shaw_needs_the_exact_kernel():
  encoding = cases.make(("shaw", {}))
  params = cases.init(encoding)
  with pytest.raises(ValueError, match="feature_map='softmax'"):
    attention.attend(
      params, *cases.tokens(), encoding=encoding, form="dense", causal=True
    )


@pytest.mark.parametrize(
  ("name", "options", "says"),
  [
    ("fltt", {}, "Did you mean 'flt'"),
    ("flt", {"num_line": 4}, "Did you mean 'num_lines'"),
    ("flt", {"mode": "logits"}, "logit, mask"),
    ("flt", {"num_lines": 10}, "num_lines=8"),
    ("flt", {"sampling": "sobol"}, "gauss_hermite"),
    (
      "flt",
      {"sampling": "gauss_hermite", "coord_dim": 2, "num_lines": 12},
      "num_lines=16",
    ),
    ("flt_local", {"coord_dim": 2}, "monte_carlo"),
    ("flt_local_exact", {"window_size": 0}, "at least 1"),
    ("nprf", {"coord_dim": 2}, "'flt' for several"),
    ("rope", {"head_dim": 7}, "use 8"),
  ],
)
def test_configurations(name, options, says):
  sizes = {"num_heads": 2, "head_dim": 8}
  with pytest.raises(ValueError, match=says):
    attention.make_encoding(name, **{**sizes, **options})


def test_positions_and_shapes():
  plane = cases.make(("flt", {}), coord_dim=2)
  params = cases.init(plane)
  q, k, v = cases.tokens()
  run = {"encoding": plane, "causal": True}
  with pytest.raises(ValueError, match="pass positions of shape"):
    attention.attend(params, q, k, v, **run)
  with pytest.raises(ValueError, match=r"expected \[..., 24, 2\]"):
    attention.attend(params, q, k, v, positions=jnp.zeros((24, 3)), **run)
  with pytest.raises(ValueError, match="q has shape"):
    attention.attend(params, q[..., :4], k, v, **run)
  with pytest.raises(ValueError, match="v has shape"):
    attention.attend(params, q, k, v[:, :5], **run)
  table = cases.make(("nprf", {}))
  params = cases.init(table)
  run = {"encoding": table, "causal": False}
  with pytest.raises(ValueError, match="pass integers"):
    attention.attend(params, q, k, v, positions=jnp.linspace(0, 1, 24), **run)
  with pytest.raises(ValueError, match="consecutive steps"):
    attention.attend(params, q, k, v, positions=jnp.arange(24), **run)
