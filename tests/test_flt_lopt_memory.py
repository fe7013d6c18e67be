"""The memory is the attention it says it is: recurrence, mass, phase."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flt_lopt
from flt_lopt import clock as clock_lib
from flt_lopt import memory
from flt_lopt.memory import base, poles, storage
from flt_lopt.memory.spectral import SpectralMemory

FURTHER = (("log", 1.0), ("horizon", 5.0), ("step", 0.97, 0.1))
#: Every spectrum that ships, and one with poles of all coordinates.
SPECTRA = {
  f"{name} {floats}": memory.make_memory(name, floats)
  for name, bank in memory.MEMORIES.items()
  for floats in bank.sizes
  if name not in ("keys", "none")
} | {"further poles": memory.make_memory("flt_damped", 2, FURTHER)}
spectra = pytest.mark.parametrize("bank", SPECTRA.values(), ids=SPECTRA)
STEPS = 200


def moved(bank, seed=0):
  """Returns meta-parameters away from their initial values."""
  rng = np.random.default_rng(seed)
  return {
    name: x + jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    for name, x in bank.init(jax.random.key(0)).items()
  }


def run(bank, theta, values, rate_gates, writes):
  """Scans the recurrence over values [steps] of one parameter."""

  def step(carry, inputs):
    state, mass, count = carry
    value, gate, write = inputs
    clock = clock_lib.make(count, STEPS)
    decay = bank.decays(theta, gate[None], clock)[0]
    mass = decay * mass + write
    coefficients = memory.Coefficients(
      decay=tuple(decay[mode] for mode in bank.mode_of),
      write=tuple(write),
      inverse_mass=tuple(1 / mass),
      inverse_unit=jnp.float32(1.0),
      shared=bank.shared(theta, clock),
    )
    state, reads = bank.advance(state, value, coefficients)
    return (state, mass, count + 1), (jnp.stack(reads), decay)

  start = (
    tuple(jnp.zeros([]) for _ in range(bank.num_floats)),
    jnp.zeros(bank.num_modes),
    jnp.zeros([], jnp.int32),
  )
  inputs = values, rate_gates, writes
  return jax.jit(lambda: jax.lax.scan(step, start, inputs)[1])()


@spectra
def test_recurrent_equals_dense_attention_with_gates(bank):
  theta = moved(bank)
  rng = np.random.default_rng(1)
  values = rng.normal(size=STEPS).astype(np.float32)
  shape = (STEPS, bank.num_modes)
  gates = np.exp(rng.normal(size=shape)).astype(np.float32)
  writes = np.exp(rng.normal(size=shape)).astype(np.float32)
  reads, decay = run(bank, theta, values, gates, writes)
  assert np.all((decay > 0) & (decay <= 1))

  # Dense: the weight of step j at step t is kappa_j times all decays between.
  log_decay = np.cumsum(np.log(np.float64(decay)), axis=0)
  lag = np.tril(np.ones((STEPS, STEPS)))
  frequency = np.float64(bank.frequencies(theta))
  times = np.arange(STEPS)
  want = []
  for k, pole in enumerate(bank.poles):
    envelope = np.exp(
      np.minimum(log_decay[:, None, k] - log_decay[None, :, k], 0)
    )
    weight = lag * envelope * np.float64(writes[None, :, k])
    mass = weight.sum(axis=1)
    turn = 2 * np.pi * frequency[k] * (times[:, None] - times[None, :])
    want.append((weight * np.cos(turn)) @ values / mass)
    if pole.is_complex:
      want.append((weight * np.sin(turn)) @ values / mass)
  np.testing.assert_allclose(reads, np.stack(want, axis=1), atol=5e-5)


@pytest.mark.parametrize(
  "pole,weight",
  [
    (("step", 0.9), lambda j, t: 0.9 ** (t - j)),
    (("step", 0.9, 0.5), lambda j, t: (-0.9) ** (t - j)),
    (("log", 2.0), lambda j, t: ((1.0 + j) / (1.0 + t)) ** 2),
    (("horizon", 5.0), lambda j, t: np.exp(-5.0 * (t - j) / STEPS)),
    (("step", 1.0), lambda j, t: np.ones_like(t - j)),
  ],
)
def test_poles_weigh_the_past_as_documented(pole, weight):
  bank = SpectralMemory((memory.parse_pole(pole),))
  values = np.random.default_rng(2).normal(size=STEPS).astype(np.float32)
  ones = np.ones((STEPS, 1), np.float32)
  reads, _ = run(bank, bank.init(jax.random.key(0)), values, ones, ones)
  j, t = np.meshgrid(np.arange(STEPS), np.arange(STEPS))
  weights = np.tril(weight(np.float64(j), np.float64(t)))
  want = weights @ values / np.abs(weights).sum(axis=1)
  np.testing.assert_allclose(reads[:, 0], want, atol=2e-5)


@spectra
def test_kernel_is_the_impulse_response(bank):
  if any(pole.coordinate != "step" or not pole.rate for pole in bank.poles):
    pytest.skip("its kernel depends on the step, or its mass grows")
  theta = moved(bank)
  values = np.zeros(STEPS, np.float32)
  values[0] = 1.0
  ones = np.ones((STEPS, bank.num_modes), np.float32)
  reads, _ = run(bank, theta, values, ones, ones)
  lags = jnp.arange(STEPS, dtype=jnp.float32)
  curves = [*bank.kernels(theta, lags).values()]
  # The recurrence divides by the mass of the steps so far, the kernel by
  # that of an infinite run.
  alpha = np.asarray(bank.rates(theta))[list(bank.mode_of)]
  share = -np.expm1(-alpha[None] * (lags[:, None] + 1))
  np.testing.assert_allclose(np.stack(curves, 1), reads * share, atol=1e-5)


def test_mass_is_the_bias_correction_of_adam():
  bank = memory.make_memory("flt_damped", 4)
  gate = jnp.ones((1, bank.num_modes))
  decay = bank.decays(bank.init(None), gate, clock_lib.make(jnp.int32(0), 9))
  mass = np.zeros(bank.num_modes)
  for count in range(1, 30):
    mass = decay[0] * mass + 1
    betas = np.exp([-pole.rate for pole in bank.poles])
    want = (1 - betas**count) / (1 - betas)
    np.testing.assert_allclose(mass, want, rtol=2e-5)


@pytest.mark.parametrize("raw", [-1e4, 1e4])
@spectra
def test_mass_never_vanishes_and_memory_never_grows(bank, raw):
  gate = base.gates(jnp.full((2, bank.num_modes), raw))
  for count in (0, 10**6):
    for num_steps in (None, 1, 10**6):
      clock = clock_lib.make(jnp.int32(count), num_steps)
      decay = bank.decays(bank.init(None), gate, clock)
      assert jnp.all((decay > 0) & (decay <= 1) & (gate > 0))


def test_phase_is_exact_after_a_million_steps():
  bank = memory.make_memory("flt_damped", 6)
  theta = moved(bank)
  for count in (10**6 + 1, 2**31 - 1):
    got = bank.phases(theta, jnp.asarray(count, jnp.int32))
    units = np.round(np.float64(bank.frequencies(theta)) * 2**32)
    exact = [int(u) * count % 2**32 / 2**32 for u in units]
    distance = np.abs(np.mod(np.float64(got) - exact + 0.5, 1.0) - 0.5)
    assert distance.max() < 2e-6


@pytest.mark.parametrize("floats", [4, 6])
def test_keys_are_attention_by_content(floats):
  bank = memory.make_memory("keys", floats)
  theta = moved(bank)
  rng = np.random.default_rng(3)
  values = rng.normal(size=STEPS).astype(np.float32)
  ones = np.ones((STEPS, 2), np.float32)
  reads, decay = run(bank, theta, values, ones, ones)

  t = np.arange(STEPS)
  frequency = np.clip(0.01 + 0.01 * np.float64(theta["frequency"]), 0, 0.5)
  line = np.float64(theta["line"])
  place = line * np.stack(
    [np.cos(2 * np.pi * frequency * t), np.sin(2 * np.pi * frequency * t)], 1
  )
  key_scale, query_scale = np.float64(theta["content"])

  def features(content):
    x = np.concatenate([content[:, None], place], axis=1)
    return np.exp(x @ bank._projection.T - 0.5 * np.sum(x * x, 1)[:, None])

  key = features(key_scale * np.clip(values, -3, 3))
  query = features(query_scale * np.clip(np.float64(reads[:, 0]), -3, 3))
  rate = -np.log(np.float64(decay[0, 1]))
  age = t[:, None] - t[None, :]
  weight = np.tril(query @ key.T * np.exp(-rate * np.maximum(age, 0)))
  want = weight @ values / weight.sum(axis=1)
  np.testing.assert_allclose(reads[:, 1], want, atol=1e-4)


def test_factored_moment_is_exact_for_rank_one():
  form = memory.make_second_moment("factored")
  rng = np.random.default_rng(4)
  gradient = np.abs(np.einsum("si,sj->sij", *rng.normal(size=(2, 3, 5))))
  gradient = gradient.astype(np.float32)
  state = form.init(jnp.zeros_like(gradient), jnp.float32)
  assert [x.shape for x in state] == [(3, 5), (3, 5)]
  for _ in range(3):
    state = form.advance(state, gradient, 0.5, 1.0)
  np.testing.assert_allclose(
    form.read(state, 1 / 1.75), gradient**2, rtol=1e-5, atol=1e-9
  )
  np.testing.assert_allclose(
    np.mean(state[0]), 1.75 * np.mean(gradient**2), rtol=1e-5
  )


@pytest.mark.parametrize("beta", [0.9, 0.999])
def test_bfloat16_does_not_freeze_slow_averages(beta):
  count = 4096
  kept = memory.make_storage("bfloat16", (memory.ema(beta),))

  def average(store):
    def step(x, t):
      moved = beta * x.astype(jnp.float32) + (1 - beta) * 1.0
      return store(moved, t), None

    start = jnp.zeros(count, jnp.bfloat16)
    return jax.lax.scan(step, start, jnp.arange(3000, dtype=jnp.int32))[0]

  rounded = average(lambda x, t: kept.keep((x,), t, 0)[0])
  mean = float(jnp.mean(rounded.astype(jnp.float32)))
  spread = float(jnp.std(rounded.astype(jnp.float32)))
  want = 1 - beta**3000
  time_constant = -1 / np.log(beta)
  assert abs(mean - want) < 5 * max(spread, 2.0**-9) / count**0.5 + 1e-4
  assert spread < 2.0**-8 * (time_constant / 6) ** 0.5 + 2.0**-8
  nearest = average(lambda x, t: x.astype(jnp.bfloat16))
  if beta == 0.999:  # To nearest, it would have stopped half way.
    assert float(nearest[0]) < 0.8 * want


def test_rounding_is_right_on_average_and_differs_by_place_and_step():
  kept = storage.BFloat16()
  value = jnp.full((64, 64), 1.0 + 2.0**-9)
  first = kept.keep((value, value), jnp.int32(3), 0)
  again = kept.keep((value, value), jnp.int32(3), 0)
  later = kept.keep((value,), jnp.int32(4), 0)
  np.testing.assert_array_equal(first[0], again[0])
  assert np.any(first[0] != first[1]) and np.any(first[0] != later[0])
  share = np.mean(np.asarray(first, np.float32) > 1.0)
  # A quarter of a unit in the last place; 5 standard errors.
  assert abs(share - 0.25) < 5 * (0.25 * 0.75 / (2 * 64 * 64)) ** 0.5
  exact = jnp.asarray([0.0, -2.0, 0.5])
  np.testing.assert_array_equal(kept.keep((exact,), jnp.int32(1), 0)[0], exact)


def test_what_can_not_be_is_refused():
  for floats in (0, 3, 5):
    with pytest.raises(ValueError, match="choose from: 2, 4, 6"):
      memory.make_memory("flt_damped", floats)
  with pytest.raises(ValueError, match="flt_damped"):
    memory.make_memory("flt_dampd", 4)
  with pytest.raises(ValueError, match="no spectrum"):
    memory.make_memory("keys", 4, (("log", 1.0),))
  with pytest.raises(ValueError, match="no first pole"):
    memory.make_memory("flt", 4, first_beta=0.9)
  for spec in (("step",), ("step", 2.0), ("log", 1.0, 0.5), ("time", 1.0)):
    with pytest.raises(ValueError, match="pole"):
      memory.parse_pole(spec)
  for slow in (("step", 0.9999), ("log", 1.0), ("step", 1.0)):
    with pytest.raises(ValueError, match="bfloat16"):
      memory.make_storage("bfloat16", (memory.parse_pole(slow),))
  assert poles.MIN_RATE > 0


def test_poles_with_the_same_label_are_told_apart():
  config = flt_lopt.OptimizerConfig(
    extra_poles=(("step", 0.99), ("step", 0.99))
  )
  lopt = flt_lopt.LearnedOptimizer(config)
  theta = lopt.init(jax.random.key(0))
  poles = len(config.make_memory().poles)
  assert len(lopt.time_scales(theta)) >= poles
  lopt.timestep_kernels(theta, np.arange(5.0))


@pytest.mark.parametrize(
  ("variant", "name", "floats"),
  [
    ("flt_damped", "none", 1),
    ("none", "ema", 2),
    ("flt_damped_2", "keys", 4),
    ("flt_damped_6", "ema", 6),
  ],
)
def test_another_memory_has_the_nearest_size(variant, name, floats):
  assert flt_lopt.make_variant(variant, memory=name).memory_floats == floats
  with pytest.raises(ValueError, match="memory_floats=3 is no size"):
    flt_lopt.make_variant(variant, memory=name, memory_floats=3)


def test_nothing_to_look_ahead_with_is_refused():
  with pytest.raises(ValueError, match="nesterov=True needs a memory"):
    flt_lopt.make_variant("none", nesterov=True)


def test_a_nominal_reading_that_is_not_the_first_is_refused(monkeypatch):
  monkeypatch.setattr(SpectralMemory, "nominal", property(lambda self: 1))
  with pytest.raises(ValueError, match="names reading 1 as the nominal"):
    flt_lopt.make_variant("ema")
