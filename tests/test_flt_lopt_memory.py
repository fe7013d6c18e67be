"""The memory is the attention it says it is: recurrence, mass, phase."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flt_lopt import memory

BANKS = [
  (name, floats) for name, bank in memory.MEMORIES.items() for floats in bank
]
banks = pytest.mark.parametrize("name,floats", BANKS)
STEPS = 200


def moved(spectrum, seed=0):
  """Returns meta-parameters away from their initial values."""
  theta = memory.init(spectrum)
  rng = np.random.default_rng(seed)
  return {
    name: x + jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    for name, x in theta.items()
  }


def run(spectrum, theta, values, gates):
  """Scans the recurrence over values [steps], as one parameter's tensor."""
  modes = memory.num_modes(spectrum)

  def step(carry, inputs):
    state, mass, count = carry
    value, rate_gate, write_gate = inputs
    decay, write, mass = memory.step_mass(
      spectrum, theta, mass, rate_gate[None], write_gate[None]
    )
    angle = 2 * jnp.pi * memory.phases(spectrum, theta, count)
    coefficients = memory.Coefficients(
      decay=tuple(decay[0]),
      write=tuple(write[0]),
      inverse_mass=tuple(1 / mass[0]),
      cosine=tuple(jnp.cos(angle)),
      sine=tuple(jnp.sin(angle)),
    )
    state, reads, second = memory.advance(spectrum, state, value, coefficients)
    return (state, mass, count + 1), (jnp.stack(reads), second, decay, write)

  floats = memory.num_floats(spectrum)
  start = (
    tuple(jnp.zeros([]) for _ in range(floats)),
    jnp.zeros((1, modes)),
    jnp.zeros([], jnp.int32),
  )
  return jax.jit(lambda: jax.lax.scan(step, start, (values, *gates))[1])()


@banks
def test_recurrent_equals_dense_attention_with_gates(name, floats):
  spectrum = memory.make_spectrum(name, floats)
  theta = moved(spectrum)
  rng = np.random.default_rng(1)
  modes = memory.num_modes(spectrum)
  values = rng.normal(size=STEPS).astype(np.float32)
  gates = [rng.normal(size=(STEPS, modes)).astype(np.float32) for _ in "ab"]
  reads, second, decay, write = run(spectrum, theta, values, gates)

  # Dense: weight of step j at step t is kappa_j times all decays between.
  log_decay = np.cumsum(np.log(np.float64(decay[:, 0])), axis=0)
  lag = np.tril(np.ones((STEPS, STEPS)))
  frequency = np.float64(memory.frequencies(spectrum, theta))
  times = np.arange(STEPS)
  want = []
  for k in range(modes):
    envelope = np.exp(
      np.minimum(log_decay[:, None, k] - log_decay[None, :, k], 0)
    )
    weight = lag * envelope * np.float64(write[None, :, 0, k])
    mass = weight.sum(axis=1)
    if k == modes - 1:
      np.testing.assert_allclose(
        second, weight @ np.float64(values) ** 2 / mass, rtol=2e-5
      )
      continue
    turn = 2 * np.pi * frequency[k] * (times[:, None] - times[None, :])
    want.append((weight * np.cos(turn)) @ values / mass)
    if spectrum.gradient[k].is_complex:
      want.append((weight * np.sin(turn)) @ values / mass)
  np.testing.assert_allclose(reads, np.stack(want, axis=1), atol=5e-5)


@banks
def test_kernel_is_the_impulse_response(name, floats):
  spectrum = memory.make_spectrum(name, floats)
  theta = moved(spectrum)
  modes = memory.num_modes(spectrum)
  values = np.zeros(STEPS, np.float32)
  values[0] = 1.0
  neutral = [np.zeros((STEPS, modes), np.float32) for _ in "ab"]
  reads, *_ = run(spectrum, theta, values, neutral)
  lags = jnp.arange(STEPS, dtype=jnp.float32)
  kernel = memory.kernels(spectrum, theta, lags)["direction"]
  # The recurrence divides by the mass of the steps so far, the kernel by
  # that of an infinite run.
  alpha = memory.rates(spectrum, theta)[:-1]
  share = -jnp.expm1(-alpha[None] * (lags[:, None] + 1))
  per_read = [
    share[:, k]
    for k, pole in enumerate(spectrum.gradient)
    for _ in range(2 if pole.is_complex else 1)
  ]
  response = (reads * jnp.stack(per_read, 1)) @ theta["read"]
  np.testing.assert_allclose(kernel, response, atol=1e-5)


def test_mass_is_the_bias_correction_of_adam():
  spectrum = memory.make_spectrum("flt_damped", 4)
  theta = memory.init(spectrum)
  mass = jnp.zeros((1, 4))
  zero = jnp.zeros((1, 4))
  for count in range(1, 30):
    *_, mass = memory.step_mass(spectrum, theta, mass, zero, zero)
    want = [
      (1 - b**count) / (1 - b)
      for b in (*(p.beta for p in spectrum.gradient), spectrum.square.beta)
    ]
    np.testing.assert_allclose(mass[0], want, rtol=2e-5)


@pytest.mark.parametrize("gate", [-1e4, 1e4])
def test_mass_never_vanishes_and_memory_never_grows(gate):
  spectrum = memory.make_spectrum("flt_damped", 6)
  theta = memory.init(spectrum)
  extreme = jnp.full((2, 5), gate)
  decay, write, mass = memory.step_mass(
    spectrum, theta, jnp.zeros((2, 5)), extreme, extreme
  )
  assert jnp.all((decay > 0) & (decay <= 1) & (write > 0) & (mass > 0))


def test_phase_is_exact_after_a_million_steps():
  spectrum = memory.make_spectrum("flt_damped", 6)
  theta = moved(spectrum)
  for count in (10**6 + 1, 2**31 - 1):
    got = memory.phases(spectrum, theta, jnp.asarray(count, jnp.int32))
    units = np.round(np.float64(memory.frequencies(spectrum, theta)) * 2**32)
    exact = [int(u) * count % 2**32 / 2**32 for u in units]
    distance = np.abs(np.mod(np.float64(got) - exact + 0.5, 1.0) - 0.5)
    assert distance.max() < 2e-6
