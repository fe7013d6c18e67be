"""The damped Fourier memory: a learned spectrum over timesteps.

It is causal linear attention over the gradients v_1 .. v_t in mask mode with
unit content, whose relative positional encoding h is a sum of damped
exponentials (the Fourier transform of a mixture of Lorentzian lines):

    y_t = sum_j h(t - j) v_j,
    h(d) = sum_k c_k exp(-alpha_k d) cos(2 pi xi_k d).

Its exact recurrence needs one float per real mode and two per complex one,

    s_k <- exp(-alpha_k) s_k + kappa_k exp(-2 pi i xi_k t) v_t,
    y_t  = sum_k Re(c_k exp(2 pi i xi_k t) s_k) / Z_k,

with decay in the state and the phase absolute, taken modulo one by wrapping
uint32 multiplication, so that it is exact at any step below 2**32. Decay,
write strength, frequency and mass are shared by a tensor; a parameter pays
only for its modes. Momentum, several betas, running means and oscillation
detectors are special cases of one learned spectrum.

Reference: Choromanski et al., "Learning a Fourier Transform for Linear
Relative Positional Encodings in Transformers" (2023); the recurrence is the
diagonal state space of Orvieto et al. (2023).

Main names: `SpectralMemory`.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from flt_lopt import clock as clock_lib
from flt_lopt.attention import numerics
from flt_lopt.memory import poles as poles_lib
from flt_lopt.memory.base import Coefficients, Memory
from flt_lopt.memory.poles import Pole

FREQUENCY_UNIT = 0.01


class Phase(NamedTuple):
  """Cosine and sine of 2 pi xi t, one entry per mode."""

  cosine: tuple[Float[Array, ""], ...]
  sine: tuple[Float[Array, ""], ...]


@dataclasses.dataclass(frozen=True)
class SpectralMemory(Memory):
  """A bank of poles.

  Attributes:
    poles: the modes at initialisation.
    learned: whether meta-training moves rates and frequencies.
    gated: whether the controller does, step by step.
    nominal_read: the reading that is the nominal direction: 0, the first
      pole's, or -1, the gradient.
  """

  poles: tuple[Pole, ...]
  learned: bool = True
  gated: bool = True
  nominal_read: int = 0

  @property
  def mode_of(self) -> tuple[int, ...]:
    return tuple(
      k for k, pole in enumerate(self.poles) for _ in range(pole.num_floats)
    )

  @property
  def num_modes(self) -> int:
    return len(self.poles)

  @property
  def num_reads(self) -> int:
    return len(self.mode_of)

  @property
  def nominal(self) -> int:
    return self.nominal_read

  def init(self, key) -> dict[str, Array]:
    del key
    theta = {}
    if self.learned and self.poles:
      theta["log_rate"] = jnp.zeros(len(self.poles), jnp.float32)
    if self.learned and any(pole.is_complex for pole in self.poles):
      theta["frequency"] = jnp.zeros(len(self.poles), jnp.float32)
    return theta

  @property
  def labels(self) -> tuple[str, ...]:
    """The poles' labels, numbered where several have the same."""
    labels: list[str] = []
    for pole in self.poles:
      number = sum(
        pole.label == each.label for each in self.poles[: len(labels)]
      )
      labels.append(f"{pole.label} ({number + 1})" if number else pole.label)
    return tuple(labels)

  def rates(self, theta, dtype=jnp.float32) -> Float[Array, "modes"]:
    """Returns alpha per unit of each mode's coordinate."""
    zeros = jnp.zeros(len(self.poles), dtype)
    return poles_lib.rates(self.poles, theta.get("log_rate", zeros))

  def frequencies(self, theta, dtype=jnp.float32) -> Float[Array, "modes"]:
    """Returns xi in [0, 1/2] cycles per step."""
    start = jnp.asarray([p.frequency for p in self.poles], dtype)
    if "frequency" not in theta:
      return start
    moves = jnp.asarray([p.is_complex for p in self.poles], dtype)
    moved = start + FREQUENCY_UNIT * theta["frequency"] * moves
    return jnp.clip(moved, 0.0, 0.5)

  def phases(self, theta, count, dtype=jnp.float32) -> Float[Array, "modes"]:
    """Returns xi * count modulo 1, exactly."""
    frequency = self.frequencies(theta, dtype)[None, :, None]
    return numerics.phase(frequency, count[None])[0]

  def decays(self, theta, gate, clock: clock_lib.Clock):
    alpha = self.rates(theta, gate.dtype)[None, :] * gate
    return poles_lib.decays(self.poles, alpha, clock)

  def shared(self, theta, clock: clock_lib.Clock) -> Phase:
    if not any(pole.frequency for pole in self.poles):
      return Phase((), ())
    dtype = clock.num_steps.dtype
    angle = 2 * jnp.pi * self.phases(theta, clock.count, dtype)
    return Phase(tuple(jnp.cos(angle)), tuple(jnp.sin(angle)))

  def advance(self, modes, gradient, c: Coefficients):
    new: list[Array] = []
    reads: list[Array] = []
    for k, pole in enumerate(self.poles):
      v, scale, slot = c.write[k] * gradient, c.inverse_mass[k], len(new)
      if not pole.frequency:
        new.append(c.decay[slot] * modes[slot] + v)
        reads.append(new[-1] * scale)
        continue
      cosine, sine = c.shared.cosine[k], c.shared.sine[k]
      if not pole.is_complex:  # The cosine is (-1)**t.
        new.append(c.decay[slot] * modes[slot] + cosine * v)
        reads.append(new[-1] * (cosine * scale))
        continue
      re = c.decay[slot] * modes[slot] + cosine * v
      im = c.decay[slot + 1] * modes[slot + 1] - sine * v
      new += [re, im]
      reads.append((cosine * re - sine * im) * scale)
      reads.append((sine * re + cosine * im) * scale)
    return tuple(new), tuple(reads)

  def kernels(self, theta, lags):
    """Returns the modes' kernels, cosine before sine, at unit mass.

    A pole on t / T or log(1 + t) is shown for a run of 1,000 steps at its
    end.
    """
    end = jnp.float32(1000.0)
    alpha = self.rates(theta)
    angle = 2 * jnp.pi * self.frequencies(theta)[:, None] * lags[None, :]
    curves = {}
    for k, (pole, label) in enumerate(zip(self.poles, self.labels)):
      age = {
        "step": lags,
        "horizon": lags / end,
        "log": jnp.log(end / jnp.maximum(end - lags, 1.0)),
      }[pole.coordinate]
      envelope = jnp.exp(-alpha[k] * age)
      if pole.coordinate == "step" and pole.rate:
        envelope *= -jnp.expm1(-alpha[k])
      else:
        envelope /= end
      curves[f"g, {label}"] = envelope * jnp.cos(angle[k])
      if pole.is_complex:
        curves[f"g, {label}, sine"] = envelope * jnp.sin(angle[k])
    return curves

  def time_scales(self, theta):
    scales = {}
    alpha, frequency = self.rates(theta), self.frequencies(theta)
    for k, (pole, label) in enumerate(zip(self.poles, self.labels)):
      if pole.rate:
        scales[f"time_constant/{label}"] = 1.0 / alpha[k]
      if pole.is_complex:
        scales[f"frequency/{label}"] = frequency[k]
    return scales
