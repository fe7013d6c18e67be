"""The memory of each parameter: a damped Fourier transform over timesteps.

It is causal linear attention over the gradients v_1 .. v_t in mask mode with
unit content, whose relative positional encoding h is a sum of damped
exponentials (the Fourier transform of a mixture of Lorentzian lines):

    y_t = sum_j h(t - j) v_j,
    h(d) = sum_k c_k exp(-alpha_k d) cos(2 pi xi_k d).

Its exact recurrence needs one float per real mode and two per complex one,

    s_k <- exp(-alpha_k) s_k + kappa_k exp(-2 pi i xi_k t) v_t,
    y_t  = sum_k Re(c_k exp(2 pi i xi_k t) s_k) / Z_k,
    Z_k <- exp(-alpha_k) Z_k + kappa_k,

with decay in the state and the phase absolute, taken modulo one by wrapping
uint32 multiplication, so that it is exact at any step below 2**32. The mass
Z_k is always positive and equals Adam's bias correction. Decay, write
strength, frequency and mass are shared by a tensor; a parameter pays only
for its modes. Momentum, several betas and oscillation detectors (a mode at
xi = 1/2 is a negative real pole) are special cases of one learned spectrum.

Reference: Choromanski et al., "Learning a Fourier Transform for Linear
Relative Positional Encodings in Transformers" (2023); the recurrence is the
diagonal state space of Orvieto et al. (2023).
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flt_lopt.attention import numerics, registry

# Meta-training perturbs all of theta with one scale. Poles need a smaller
# one: their raw parameters count in units of these.
LOG_RATE_UNIT = 0.1
FREQUENCY_UNIT = 0.01
MIN_RATE, MAX_RATE = 1e-6, 3.0
GATE_RANGE = 2.0


class Pole(NamedTuple):
  """A mode at initialisation.

  Attributes:
    beta: decay per step, exp(-alpha).
    frequency: xi in cycles per step. 0 and 1/2 are real modes of one float,
      anything else is complex and takes two.
  """

  beta: float
  frequency: float = 0.0

  @property
  def is_complex(self) -> bool:
    return self.frequency not in (0.0, 0.5)


class Spectrum(NamedTuple):
  """The modes of a memory: those of the gradient, and one of its square."""

  gradient: tuple[Pole, ...]
  square: Pole
  learned: bool = True


FLT_DAMPED = {
  2: Spectrum((Pole(0.9),), Pole(0.999)),
  4: Spectrum((Pole(0.9), Pole(0.99), Pole(0.9, 0.5)), Pole(0.999)),
  6: Spectrum(
    (Pole(0.9), Pole(0.99), Pole(0.999), Pole(0.9, 0.45)), Pole(0.999)
  ),
}
EMA = {
  floats: Spectrum(
    tuple(Pole(beta) for beta in betas), Pole(0.999), learned=False
  )
  for floats, betas in {
    2: (0.9,),
    4: (0.9, 0.99, 0.5),
    6: (0.9, 0.99, 0.5, 0.999, 0.9999),
  }.items()
}
MEMORIES = {"flt_damped": FLT_DAMPED, "ema": EMA}


def make_spectrum(name: str, floats: int) -> Spectrum:
  """Returns the modes of memory `name` at `floats` floats per parameter."""
  registry.check_choice("memory", name, MEMORIES)
  return MEMORIES[name][floats]


def num_modes(spectrum: Spectrum) -> int:
  """Returns the number of modes, the squared gradient's included."""
  return len(spectrum.gradient) + 1


def num_floats(spectrum: Spectrum) -> int:
  """Returns the floats of state per parameter."""
  return 1 + num_reads(spectrum)


def num_reads(spectrum: Spectrum) -> int:
  """Returns the real readings of the gradient's modes."""
  return sum(2 if pole.is_complex else 1 for pole in spectrum.gradient)


def init(spectrum: Spectrum) -> dict[str, Array]:
  """Returns the meta-parameters, at which only the first mode is read.

  `read` holds the real weights c of the readings; `log_rate` and `frequency`
  hold offsets from the initial poles in the units above.
  """
  read = jnp.zeros(num_reads(spectrum), jnp.float32).at[0].set(1.0)
  theta = {"read": read}
  if spectrum.learned:
    theta["log_rate"] = jnp.zeros(num_modes(spectrum), jnp.float32)
    if any(pole.is_complex for pole in spectrum.gradient):
      theta["frequency"] = jnp.zeros(len(spectrum.gradient), jnp.float32)
  return theta


def rates(spectrum: Spectrum, theta) -> Float[Array, "modes"]:
  """Returns alpha = -log |lambda| per step of every mode, within bounds."""
  poles = (*spectrum.gradient, spectrum.square)
  start = np.log([-np.log(pole.beta) for pole in poles])
  log_rate = jnp.asarray(start, theta["read"].dtype)
  if spectrum.learned:
    log_rate = log_rate + LOG_RATE_UNIT * theta["log_rate"]
  return jnp.clip(jnp.exp(log_rate), MIN_RATE, MAX_RATE)


def frequencies(spectrum: Spectrum, theta) -> Float[Array, "gradient_modes"]:
  """Returns xi of the gradient's modes, in [0, 1/2] cycles per step."""
  dtype = theta["read"].dtype
  start = jnp.asarray([p.frequency for p in spectrum.gradient], dtype)
  if "frequency" not in theta:
    return start
  moves = jnp.asarray([p.is_complex for p in spectrum.gradient], dtype)
  moved = start + FREQUENCY_UNIT * theta["frequency"] * moves
  return jnp.clip(moved, 0.0, 0.5)


def phases(spectrum: Spectrum, theta, count) -> Float[Array, "gradient_modes"]:
  """Returns xi * count modulo 1 of the gradient's modes, exactly."""
  frequency = frequencies(spectrum, theta)[None, :, None]
  return numerics.phase(frequency, count[None])[0]


class Coefficients(NamedTuple):
  """What one step of the memory needs besides the parameter's own numbers.

  `decay`, `write` and `inverse_mass` hold one entry per mode, `cosine` and
  `sine` one per gradient mode; entries are scalars or broadcast against the
  tensor.
  """

  decay: tuple[Float[Array, "..."], ...]
  write: tuple[Float[Array, "..."], ...]
  inverse_mass: tuple[Float[Array, "..."], ...]
  cosine: tuple[Float[Array, "..."], ...]
  sine: tuple[Float[Array, "..."], ...]


def step_mass(
  spectrum: Spectrum,
  theta,
  mass: Float[Array, "tensors modes"],
  rate_gate: Float[Array, "tensors modes"],
  write_gate: Float[Array, "tensors modes"],
):
  """Applies the gates and advances the mass by one step.

  Args:
    spectrum: the modes.
    theta: the memory's meta-parameters.
    mass: Z of the previous step.
    rate_gate: changes log(alpha), bounded to +-2 by tanh; 0 is neutral.
    write_gate: changes log(kappa) likewise.

  Returns:
    (decay, write, mass), each of shape [tensors, modes]: 0 < decay < 1 and
    write > 0 hold after gating, so the mass never vanishes.
  """
  gate = jnp.exp(GATE_RANGE * jnp.tanh(rate_gate))
  alpha = rates(spectrum, theta)[None, :] * gate
  alpha = jnp.clip(alpha, MIN_RATE, MAX_RATE)
  decay = jnp.exp(-alpha)
  write = jnp.exp(GATE_RANGE * jnp.tanh(write_gate))
  return decay, write, decay * mass + write


def advance(spectrum: Spectrum, modes, gradient, c: Coefficients):
  """Writes a gradient into the modes and reads them; element-wise.

  Args:
    spectrum: the modes.
    modes: `num_floats(spectrum)` arrays of the tensor's shape; the last is
      the squared gradient's.
    gradient: array of the same shape.
    c: the coefficients of this step.

  Returns:
    (modes, reads, second): the new modes, the readings of the gradient's
    modes divided by their mass, and that of the squared gradient.
  """
  new, reads = [], []
  slot = 0
  for k, pole in enumerate(spectrum.gradient):
    v = c.write[k] * gradient
    cosine, sine, scale = c.cosine[k], c.sine[k], c.inverse_mass[k]
    if pole.is_complex:
      re = c.decay[k] * modes[slot] + cosine * v
      im = c.decay[k] * modes[slot + 1] - sine * v
      new += [re, im]
      reads.append((cosine * re - sine * im) * scale)
      reads.append((sine * re + cosine * im) * scale)
      slot += 2
    else:
      # cosine is +1 always at frequency 0 and (-1)**t at 1/2.
      signed = v if pole.frequency == 0.0 else cosine * v
      scale = scale if pole.frequency == 0.0 else cosine * scale
      new.append(c.decay[k] * modes[slot] + signed)
      reads.append(new[-1] * scale)
      slot += 1
  second = c.decay[-1] * modes[slot] + c.write[-1] * gradient * gradient
  return (*new, second), tuple(reads), second * c.inverse_mass[-1]


def kernels(
  spectrum: Spectrum, theta, lags: Float[Array, "lags"]
) -> dict[str, Float[Array, "lags"]]:
  """Returns the learned encoding h and its modes at the given lags.

  Gates are neutral and each mode has unit mass, as the normaliser makes it
  after a long run:

    h(d) = sum_k (1 - |lambda_k|) |lambda_k|**d Re(c_k exp(2 pi i xi_k d)).

  The entry `"direction"` is h; the others are its modes, named by their
  decay and frequency, and the second moment's.
  """
  alpha = rates(spectrum, theta)[:, None]
  envelope = -jnp.expm1(-alpha) * jnp.exp(-alpha * lags[None, :])
  angle = 2 * jnp.pi * frequencies(spectrum, theta)[:, None] * lags[None, :]
  total = jnp.zeros_like(lags)
  curves = {}
  slot = 0
  for k, pole in enumerate(spectrum.gradient):
    curve = envelope[k] * jnp.cos(angle[k])
    total = total + theta["read"][slot] * curve
    slot += 1
    if pole.is_complex:
      total = total + theta["read"][slot] * envelope[k] * jnp.sin(angle[k])
      slot += 1
    name = f"g, beta {pole.beta:g}"
    if pole.frequency:
      name += f", frequency {pole.frequency:g}"
    curves[name] = curve
  curves[f"g squared, beta {spectrum.square.beta:g}"] = envelope[-1]
  return {"direction": total, **curves}
