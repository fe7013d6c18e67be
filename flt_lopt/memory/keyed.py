"""Per-parameter keys: each parameter attends to its own past by content.

The literal per-parameter attention, for comparison at equal state: every
step writes the gradient v_t under a key made of it, and reads with a query
made of momentum, through M positive random features (FAVOR+),

    phi_i(x) = exp(w_i . x - |x|^2 / 2),
    S_i <- lambda S_i + phi_i(k_t) v_t,   z_i <- lambda z_i + phi_i(k_t),
    y_t = sum_i phi_i(q_t) S_i / sum_i phi_i(q_t) z_i,

where x is the content beside one learned Fourier line of the timestep, in
logit mode: x = [a u, b cos(2 pi xi t), b sin(2 pi xi t)]. The key's content u
is the gradient in units of its tensor's size of gradients, the query's is
the momentum likewise. M features cost 2 M floats per parameter, and one more
goes to the momentum; with jointly Gaussian gradients the optimal filter is
linear in the history, so the keys of `flt_damped`, shared by a tensor, lose
nothing there and need half the state.

Reference: Choromanski et al., "Rethinking Attention with Performers" (2021);
Jain et al., "Mnemosyne: Learning to Train Transformers with Transformers"
(2023), for the discounted memory.

Main names: `KeyedMemory`.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flt_lopt import clock as clock_lib
from flt_lopt.attention import numerics
from flt_lopt.memory import poles as poles_lib
from flt_lopt.memory.base import Coefficients, Memory
from flt_lopt.memory.poles import ema

CLIP = 3.0


class Features(NamedTuple):
  """This step's scalars: content weights, and positions of the features."""

  key: tuple[Float[Array, ""], ...]
  query: tuple[Float[Array, ""], ...]
  position: tuple[Float[Array, ""], ...]
  key_scale: Float[Array, ""]
  query_scale: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class KeyedMemory(Memory):
  """Momentum, and discounted attention with `num_features` features.

  Attributes:
    num_features: M.
    seed: of the constant random projection.
  """

  num_features: int
  seed: int = 0

  @property
  def _poles(self):
    return (ema(0.9), ema(0.99))

  @property
  def mode_of(self) -> tuple[int, ...]:
    return (0,) + (1,) * (2 * self.num_features)

  @property
  def powers(self) -> tuple[int, ...]:
    return (1,) + (1,) * self.num_features + (0,) * self.num_features

  @property
  def num_modes(self) -> int:
    return 2

  @property
  def num_reads(self) -> int:
    return 2

  @property
  def nominal(self) -> int:
    return 0

  @property
  def _projection(self) -> np.ndarray:
    rng = np.random.default_rng(self.seed)
    drawn = rng.normal(size=(self.num_features, 3))
    drawn[1::2] = -drawn[: len(drawn) // 2 * 2 : 2]  # In antithetic pairs.
    return drawn

  def init(self, key) -> dict[str, Array]:
    del key
    return {
      "log_rate": jnp.zeros(2, jnp.float32),
      "content": jnp.ones(2, jnp.float32),
      "line": jnp.full([], 0.3, jnp.float32),
      "frequency": jnp.zeros([], jnp.float32),
    }

  def decays(self, theta, gate, clock: clock_lib.Clock):
    alpha = poles_lib.rates(self._poles, theta["log_rate"])[None, :] * gate
    return poles_lib.decays(self._poles, alpha, clock)

  def shared(self, theta, clock: clock_lib.Clock) -> Features:
    dtype = theta["content"].dtype
    weight = jnp.asarray(self._projection, dtype)
    frequency = jnp.clip(0.01 + 0.01 * theta["frequency"], 0.0, 0.5)
    turn = numerics.phase(frequency[None, None, None], clock.count[None])
    angle = 2 * jnp.pi * turn.reshape(())
    line = jnp.stack([jnp.cos(angle), jnp.sin(angle)]) * theta["line"]
    position = weight[:, 1:] @ line - 0.5 * theta["line"] ** 2
    key, query = theta["content"][0], theta["content"][1]
    return Features(
      key=tuple(weight[:, 0] * key),
      query=tuple(weight[:, 0] * query),
      position=tuple(position),
      key_scale=key,
      query_scale=query,
    )

  def advance(self, modes, gradient, c: Coefficients):
    f = c.shared
    count = self.num_features
    momentum = c.decay[0] * modes[0] + c.write[0] * gradient
    read = momentum * c.inverse_mass[0]
    key = jnp.clip(gradient * c.inverse_unit, -CLIP, CLIP)
    query = jnp.clip(read * c.inverse_unit, -CLIP, CLIP)
    key_norm = 0.5 * (f.key_scale * key) ** 2
    query_norm = 0.5 * (f.query_scale * query) ** 2
    sums, masses = [], []
    above, below = 0.0, 0.0
    for i in range(count):
      written = c.write[1] * jnp.exp(f.key[i] * key + f.position[i] - key_norm)
      sums.append(c.decay[1 + i] * modes[1 + i] + written * gradient)
      masses.append(c.decay[1 + count + i] * modes[1 + count + i] + written)
      weight = jnp.exp(f.query[i] * query + f.position[i] - query_norm)
      above = above + weight * sums[-1]
      below = below + weight * masses[-1]
    attended = above / jnp.maximum(below, 1e-30)
    return (momentum, *sums, *masses), (read, attended)

  def kernels(self, theta, lags):
    alpha = poles_lib.rates(self._poles, theta["log_rate"])
    return {
      f"{name}, {pole.label}": -jnp.expm1(-a) * jnp.exp(-a * lags)
      for name, a, pole in zip(
        ("g", "discount of the keys"), alpha, self._poles, strict=True
      )
    }

  def time_scales(self, theta):
    alpha = poles_lib.rates(self._poles, theta["log_rate"])
    return {
      "time_constant/g": 1.0 / alpha[0],
      "time_constant/keys": 1.0 / alpha[1],
    }
