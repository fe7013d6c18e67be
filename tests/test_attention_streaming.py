"""Streaming: exact from the first token to the millionth."""

import functools

import attention_cases as cases
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flt_lopt import attention

STREAMING = [
  case for case in cases.FIRST_CASES if "recurrent" in cases.make(case).forms
]


def stream_of(encoding, **options):
  return attention.StreamingAttention(
    encoding=encoding,
    **{"num_features": 16, "value_dim": cases.VALUE, **options},
  )


def run_stream(stream, params, state, q, k, v, positions):
  """Scan over tokens; time is the first axis."""

  def step(state, token):
    return stream.step(params, state, *token)

  return jax.lax.scan(step, state, (q, k, v, positions))


@pytest.mark.parametrize("case", STREAMING, ids=cases.case_id)
def test_steps_continue_a_prefill_and_equal_the_sequence(case):
  """Half by prefill, half step by step, vmapped over parameters."""
  encoding = cases.make(case)
  stream = stream_of(encoding)
  params = [cases.init(encoding, seed) for seed in (0, 5)]
  q, k, v = cases.tokens()
  half = cases.LENGTH // 2
  positions = jnp.arange(cases.LENGTH, dtype=jnp.int32)

  @functools.partial(jax.jit, compiler_options=cases.QUICK)
  @functools.partial(jax.vmap, axis_size=2)
  def run(params):
    state, first = attention.prefill(
      params,
      q[:, :half],
      k[:, :half],
      v[:, :half],
      encoding=encoding,
      num_features=16,
      chunk_size=5,
    )
    rest = [jnp.moveaxis(x[:, half:], 1, 0) for x in (q, k, v)]
    state, second = run_stream(stream, params, state, *rest, positions[half:])
    return jnp.concatenate([first, jnp.moveaxis(second, 0, 1)], axis=1)

  outs = run(jax.tree.map(lambda *x: jnp.stack(x), *params))
  for out, p in zip(outs, params):
    reference = cases.attend(
      encoding, p, q, k, v, form="recurrent", causal=True
    )
    assert cases.relative(out, reference) < 2e-6


@pytest.mark.parametrize("case", STREAMING, ids=cases.case_id)
def test_state_has_a_constant_shape_and_a_first_output(case):
  """The first output is the first value: normalised by at least 1."""
  encoding = cases.make(case)
  stream = stream_of(encoding)
  params = cases.init(encoding)
  state = stream.init_state((cases.BATCH,))
  q, k, v = (x[:, 0] for x in cases.tokens())
  step = jax.jit(stream.step, compiler_options=cases.QUICK)
  new_state, out = step(params, state, q, 20 * k, v, jnp.int32(0))
  same = jax.tree.map(
    lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype), state, new_state
  )
  assert all(jax.tree.leaves(same))
  if encoding.normalised and encoding.poles(params) is None:
    np.testing.assert_allclose(out, v, rtol=1e-5)


def test_running_maximum_equals_extended_precision():
  """Keys nine times larger mid-stream; reference unstabilised in float64."""
  encoding = cases.make(("none", {}))
  q, k, v = cases.tokens(length=60, batch=())
  k = k.at[30:35].multiply(9.0)
  out = cases.attend(encoding, {}, q, k, v, form="recurrent", causal=True)
  features = stream_of(encoding).features
  logs = [
    np.asarray(
      features.log_features({}, jnp.moveaxis(x, -2, -3) * cases.DIM**-0.25),
      np.float64,
    )
    for x in (q, k)
  ]
  kernel = np.einsum("htm,hjm->htj", *(np.exp(x) for x in logs))
  kernel = np.tril(kernel)
  kernel = kernel / kernel.sum(-1, keepdims=True)
  expected = np.einsum("htj,jhv->thv", kernel, np.asarray(v, np.float64))
  assert cases.relative(out, expected) < 5e-6


def test_decay_lets_an_old_outlier_fade():
  """A log-maximum that did not decay would starve the state forever."""
  encoding = cases.make(("alibi", {}))
  params = {"log_slope": jnp.log(jnp.full((cases.HEADS, 1), 2.0))}
  q, k, v = cases.tokens(length=200, batch=())
  outlier = k.at[0].multiply(15.0)
  outs = [
    cases.attend(encoding, params, q, x, v, form="recurrent", causal=True)
    for x in (k, outlier)
  ]
  np.testing.assert_allclose(outs[1][150:], outs[0][150:], atol=1e-5)


def test_alibi_bias_is_the_decay_of_the_state():
  """exp(logit - s D) attention equals the recurrence, features aside."""
  encoding = cases.make(("alibi", {}))
  params = cases.init(encoding)
  q, k, v = cases.tokens()
  plain = cases.make(("none", {}))
  stream = stream_of(plain)
  phi = [
    jnp.exp(
      stream.features.log_features({}, plain.scale(jnp.moveaxis(x, -2, -3)))
    )
    for x in (q, k)
  ]
  kernel = jnp.einsum("...tm,...jm->...tj", *phi)
  t = jnp.arange(cases.LENGTH)
  slope = jnp.exp(params["log_slope"])[:, :, None]
  logits = jnp.log(kernel) - slope * jnp.abs(t[:, None] - t)
  logits = jnp.where(t[:, None] >= t, logits, -jnp.inf)
  weight = jax.nn.softmax(logits, axis=-1)
  expected = jnp.einsum("...htj,...jhv->...thv", weight, v)
  out = cases.attend(encoding, params, q, k, v, form="recurrent", causal=True)
  assert cases.relative(out, expected) < 2e-6


def test_unit_keys_with_two_poles_are_adam():
  """Poles beta1, beta2; values g, g^2; the mass is the bias correction."""
  betas = jnp.array([0.9, 0.999])
  encoding = attention.make_encoding(
    "flt_damped", num_heads=2, head_dim=1, num_poles=1, oscillating=False
  )
  params = {
    "log_decay": jnp.log(-jnp.log(betas))[:, None, None],
    "real": jnp.ones((2, 1)),
  }
  stream = stream_of(
    encoding, feature_map="constant", num_features=1, value_dim=5
  )
  steps, unit = 300, jnp.ones((2, 1))
  scales = 10.0 ** jnp.linspace(-2, 1, 5)
  grads = scales * jax.random.normal(jax.random.key(0), (steps, 5))
  adam = optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-8)

  def step(carry, inputs):
    state, adam_state = carry
    t, g = inputs
    state, out = stream.step(
      params, state, unit, unit, jnp.stack([g, g * g]), t
    )
    ours = out[0] / (jnp.sqrt(out[1]) + 1e-8)
    theirs, adam_state = adam.update(g, adam_state)
    return (state, adam_state), (ours, theirs)

  start = (stream.init_state(), adam.init(grads[0]))
  _, (ours, theirs) = jax.jit(
    lambda: jax.lax.scan(
      step, start, (jnp.arange(steps, dtype=jnp.int32), grads)
    )
  )()
  np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.slow
def test_a_million_steps_keep_the_stated_error():
  """Exact phases: no drift from step 1e6 - 1000 on against float64."""
  count, seen = 1_000_000, 1000
  encoding = attention.make_encoding(
    "flt_damped", num_heads=1, head_dim=1, num_poles=2
  )
  params = {
    "log_decay": jnp.log(jnp.array([[[1e-4], [1e-2]]])),
    "real": jnp.array([[0.7, 0.4]]),
    "imag": jnp.array([[0.1, -0.3]]),
    "frequency": jnp.array([[[1.3], [-2.0]]]),
  }
  stream = stream_of(
    encoding, feature_map="constant", num_features=1, value_dim=1
  )
  v = jax.random.normal(jax.random.key(0), (count, 1, 1))
  unit = jnp.ones((1, 1))

  @jax.jit
  def run(v):
    def step(state, token):
      return stream.step(params, state, unit, unit, *token)

    steps = jnp.arange(count, dtype=jnp.int32)
    # In one program: another one may round a frequency's last bit otherwise.
    poles = encoding.poles(params)
    return jax.lax.scan(step, stream.init_state(), (v, steps))[1], poles

  outs, poles = run(v)
  found = np.asarray(outs)[-seen:, 0, 0]
  xi = np.round(np.asarray(poles.frequency, np.float64) * 2**32) / 2**32
  rate = np.asarray(poles.decay, np.float64)[0, :, 0]
  c = np.asarray(poles.real[0], np.float64) + 1j * np.asarray(poles.imag[0])
  t = np.arange(count)
  value = np.asarray(v, np.float64)[:, 0, 0]
  total = mass = 0.0
  for p in range(2):
    wave = c[p] * np.exp((-rate[p] + 2j * np.pi * xi[0, p, 0]) * t)
    size = 1 << 21
    product = np.fft.ifft(np.fft.fft(wave, size) * np.fft.fft(value, size))
    total = total + product.real[count - seen : count]
    mass = mass + abs(c[p]) * (1 - np.exp(-rate[p] * count)) / (
      1 - np.exp(-rate[p])
    )
  expected = total / mass
  error = np.abs(found - expected).max() / np.abs(expected).max()
  assert error < 5e-5, error


@pytest.mark.slow
def test_a_million_steps_of_undamped_attention_do_not_drift():
  """FLT in logit mode: an old stream equals one that began lately."""
  encoding = cases.make(("flt_lines", {"decay": True, "decay_scale": 20.0}))
  params = cases.init(encoding)
  stream = stream_of(encoding)
  period, count = 64, 1_000_000
  q, k, v = cases.tokens(length=period, batch=())

  @jax.jit
  def run():
    def step(state, t):
      token = (x[t % period] for x in (q, k, v))
      state, out = stream.step(params, state, *token, t)
      return state, out

    def block(state, start):
      state, outs = jax.lax.scan(
        step, state, start + jnp.arange(1000, dtype=jnp.int32)
      )
      return state, outs[-64:]

    starts = jnp.arange(0, count, 1000, dtype=jnp.int32)
    empty = stream.init_state()
    # In one program: another one may round a frequency's last bit otherwise.
    fresh = block(empty, starts[-1])[1]
    return jax.lax.scan(block, empty, starts)[1][-1], fresh

  assert cases.relative(*run()) < 2e-5


@pytest.mark.slow
def test_a_million_repeated_tokens_are_attention_to_one_period():
  """Sums over 1e6 tokens: in one float they would stand still."""
  encoding = cases.make(("none", {}))
  stream = stream_of(encoding)
  period = 64
  q, k, v = cases.tokens(length=period, batch=())

  @jax.jit
  def run():
    def step(state, t):
      token = (x[t % period] for x in (q, k, v))
      state, _ = stream.step({}, state, *token, t)
      return state, None

    start = stream.init_state()
    state, _ = jax.lax.scan(step, start, jnp.arange(15_624 * period))
    return run_stream(
      stream, {}, state, q, k, v, jnp.arange(period, dtype=jnp.int32)
    )[1]

  expected = cases.attend(encoding, {}, q, k, v, form="parallel", causal=False)
  # The mean of 1e6 values moves by less than its last bits at each step.
  assert cases.relative(run()[-1], expected[-1]) < 3e-4


def test_gradient_through_a_stream():
  encoding = cases.make(("flt", {"decay": True}), coord_dim=2)
  params = cases.init(encoding)
  stream = stream_of(encoding, num_features=8)
  q, k, v = (jnp.moveaxis(x, 1, 0) for x in cases.tokens())
  t = jnp.arange(cases.LENGTH)
  positions = jnp.stack([jnp.log1p(t / 10), t / cases.LENGTH], axis=-1)

  @jax.jit
  @jax.grad
  def gradient(params):
    state = stream.init_state((cases.BATCH,))
    _, outs = run_stream(stream, params, state, q, k, v, positions)
    return jnp.sum(outs**2)

  for name, leaf in gradient(params).items():
    assert np.all(np.isfinite(leaf)), name
    assert np.all(np.abs(leaf) > 0), name


def test_invalid_tokens_leave_the_state_alone():
  encoding = cases.make(("flt_lines", {"decay": True}))
  params = cases.init(encoding)
  stream = stream_of(encoding)
  q, k, v = (x[:, 0] for x in cases.tokens())
  valid = jnp.array([True, False])
  step = jax.jit(stream.step, compiler_options=cases.QUICK)
  state, out = step(
    params, stream.init_state((2,)), q, k, v, jnp.int32(0), valid=valid
  )
  np.testing.assert_array_equal(out[1], 0)
  assert float(jnp.max(jnp.abs(state.mean[1]))) == 0
  assert float(jnp.max(jnp.abs(out[0]))) > 0
