"""Every form of every encoding equals its dense reference."""

import attention_cases as cases
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from flt_lopt import attention

BOTH = pytest.mark.parametrize("causal", [True, False])
EVERY = cases.every(cases.CASES)

# After an FFT, the error is relative to the largest mass, and dividing by a
# small mass amplifies it; products themselves are tested at 2e-6.
FFT_TOLERANCE = 3e-4


def tolerance(encoding, form):
  return FFT_TOLERANCE if form == "parallel" and encoding.toeplitz else 2e-6


@EVERY
@BOTH
def test_forms_equal_dense_with_padding(case, causal):
  encoding = cases.make(case)
  params = cases.init(encoding)
  q, k, v = cases.tokens()
  options = {"causal": causal, "key_mask": cases.padding()}
  reference = cases.attend(encoding, params, q, k, v, form="dense", **options)
  assert np.all(np.isfinite(reference))
  for form in cases.forms_of(encoding, causal=causal):
    out = cases.attend(encoding, params, q, k, v, form=form, **options)
    error = cases.relative(out, reference)
    assert error < tolerance(encoding, form), (form, error)


def gradients(encoding, form, causal):
  """Return all gradients of one form as a flat vector."""
  params = cases.init(encoding)
  q, k, v = cases.tokens()
  target = jax.random.normal(jax.random.key(7), v.shape)

  def loss(arrays):
    out = attention.attend(
      *arrays,
      encoding=encoding,
      form=form,
      causal=causal,
      feature_map=cases.feature_map_of(encoding),
      num_features=16,
      chunk_size=8,
    )
    return jnp.sum(out * target)

  grad = jax.jit(jax.grad(loss), compiler_options=cases.QUICK)
  return jax.flatten_util.ravel_pytree(grad((params, q, k, v)))[0]


@pytest.mark.parametrize("case", cases.FIRST_CASES, ids=cases.case_id)
def test_gradients_equal_dense(case):
  encoding = cases.make(case)
  causal = "chunked" in encoding.forms
  reference = gradients(encoding, "dense", causal)
  assert np.all(np.isfinite(reference))
  for form in cases.forms_of(encoding, causal=causal)[:1]:
    error = cases.relative(gradients(encoding, form, causal), reference)
    assert error < 10 * tolerance(encoding, form), (form, error)


@pytest.mark.slow
@EVERY
@BOTH
def test_gradients_of_every_form_equal_dense(case, causal):
  encoding = cases.make(case)
  reference = gradients(encoding, "dense", causal)
  for form in cases.forms_of(encoding, causal=causal):
    error = cases.relative(gradients(encoding, form, causal), reference)
    assert error < 10 * tolerance(encoding, form), (form, error)


@pytest.mark.parametrize(
  "case",
  [("flt_damped", {}), ("flt_local_exact", {"window_size": 7})],
  ids=cases.case_id,
)
def test_all_leading_dimensions_and_chunk_sizes(case):
  """One token at a time equals a batch; any chunk size gives the same."""
  encoding = cases.make(case)
  params = cases.init(encoding)
  batch = cases.tokens(batch=(2, 1))
  single = [x[1, 0] for x in batch]
  options = {"form": "chunked", "causal": True}
  reference = cases.attend(encoding, params, *batch, **options)
  out = cases.attend(encoding, params, *single, chunk_size=7, **options)
  assert reference.shape == (2, 1, cases.LENGTH, cases.HEADS, cases.VALUE)
  assert cases.relative(out, reference[1, 0]) < 2e-6


@pytest.mark.slow
@pytest.mark.parametrize(("length", "bound"), [(512, 3e-5), (2048, 1e-4)])
@pytest.mark.parametrize("name", ["flt", "flt_damped"])
def test_long_recurrences_equal_dense(name, length, bound):
  options = {
    "flt": {"mode": "mask", "coordinate_scale": 4 / length},
    "flt_damped": {"num_poles": 2},
  }[name]
  encoding = cases.make((name, options))
  params = cases.init(encoding)
  q, k, v = cases.tokens(length=length, batch=())
  outs = [
    cases.attend(encoding, params, q, k, v, form=form, causal=True)
    for form in ("dense", "chunked", "recurrent")
  ]
  bound = 5e-6 if name == "flt_damped" else bound
  assert cases.relative(outs[1], outs[0]) < bound
  assert cases.relative(outs[2], outs[0]) < bound


@pytest.mark.parametrize(
  "case",
  [("flt", cases.SCALE), ("flt_damped", {})],
  ids=cases.case_id,
)
def test_forms_agree_in_float64(case):
  with jax.enable_x64(True):
    encoding = cases.make(case)
    params = jax.tree.map(lambda x: x.astype(jnp.float64), cases.init(encoding))
    q, k, v = (x.astype(jnp.float64) for x in cases.tokens())
    outs = [
      cases.attend(encoding, params, q, k, v, form=form, causal=True)
      for form in ("dense", "chunked", "recurrent")
    ]
    assert outs[0].dtype == jnp.float64
    assert cases.relative(outs[1], outs[0]) < 1e-12
    assert cases.relative(outs[2], outs[0]) < 1e-12


def test_batched_real_positions():
  """Positions may be real, of several coordinates, and differ per batch."""
  encoding = cases.make(("flt", {}), coord_dim=3)
  params = cases.init(encoding)
  q, k, v = cases.tokens()
  positions = jax.random.uniform(
    jax.random.key(3), (cases.BATCH, cases.LENGTH, 3)
  )
  for form, causal in (("chunked", True), ("parallel", False)):
    reference, out = (
      cases.attend(
        encoding, params, q, k, v, form=f, causal=causal, positions=positions
      )
      for f in ("dense", form)
    )
    alone = cases.attend(
      encoding,
      params,
      q[1],
      k[1],
      v[1],
      form=form,
      causal=causal,
      positions=positions[1],
    )
    assert cases.relative(out, reference) < 2e-6, form
    assert cases.relative(alone, reference[1]) < 2e-6, form


@pytest.mark.parametrize("name", attention.FEATURE_MAPS.names())
def test_every_feature_map_in_every_form(name):
  encoding = cases.make(("flt_lines", {"num_lines": 4, "decay": True}))
  counts = {"elu": None, "constant": 1}
  options = {"feature_map": name, "num_features": counts.get(name, 16)}
  params = attention.init_attention(jax.random.key(0), encoding, **options)
  q, k, v = cases.tokens()
  if name == "softmax":
    with pytest.raises(ValueError, match="favor_plus"):
      cases.attend(
        encoding, params, q, k, v, form="chunked", causal=True, **options
      )
    return
  outs = [
    cases.attend(encoding, params, q, k, v, form=form, causal=True, **options)
    for form in ("dense", "chunked")
  ]
  assert cases.relative(outs[1], outs[0]) < 2e-6


def test_a_redrawn_projection_changes_the_estimate_in_every_form():
  encoding = cases.make(("none", {}))
  features = attention.make_feature_map(
    "favor_plus", num_heads=cases.HEADS, dim=cases.DIM, num_features=16
  )
  q, k, v = cases.tokens()

  @jax.jit
  def run(projection):
    return [
      attention.attend(
        {},
        q,
        k,
        v,
        encoding=encoding,
        form=form,
        causal=True,
        feature_map=features,
        projection=projection,
      )
      for form in ("dense", "chunked")
    ]

  first, second = (run(features.redraw(jax.random.key(i))) for i in (0, 1))
  assert cases.relative(first[1], first[0]) < 2e-6
  assert cases.relative(second[0], first[0]) > 0.01


@pytest.mark.parametrize(
  "case", [("flt", cases.SCALE), ("nprf", {})], ids=cases.case_id
)
def test_bfloat16_inputs(case):
  """bf16 in, bf16 out; only the rounding of inputs and outputs is lost."""
  encoding = cases.make(case)
  params = cases.init(encoding)
  rounded = [x.astype(jnp.bfloat16) for x in cases.tokens()]
  exact = [x.astype(jnp.float32) for x in rounded]
  form = "recurrent" if "recurrent" in encoding.forms else "parallel"
  out, reference = (
    cases.attend(encoding, params, *xs, form=form, causal=True)
    for xs in (rounded, exact)
  )
  assert out.dtype == jnp.bfloat16
  assert cases.relative(out.astype(jnp.float32), reference) < 2.0**-8


def test_sharded_over_batch_and_heads():
  if jax.device_count() < 4:
    pytest.skip("needs four devices")
  mesh = jax.make_mesh((2, 2), ("batch", "heads"))
  spec = jax.sharding.PartitionSpec("batch", None, "heads")
  sharding = jax.sharding.NamedSharding(mesh, spec)
  for case, form, causal in (
    (("flt", cases.SCALE), "chunked", True),
    (("flt_damped", {}), "recurrent", True),
    (("nprf", {"max_lag": 20}), "parallel", False),
  ):
    encoding = cases.make(case)
    params = cases.init(encoding)
    plain = cases.tokens()
    placed = [jax.device_put(x, sharding) for x in plain]
    outs = [
      cases.attend(encoding, params, *xs, form=form, causal=causal)
      for xs in (plain, placed)
    ]
    assert len(outs[1].sharding.device_set) == 4
    assert cases.relative(outs[1], outs[0]) < 2e-6
