"""HyPE: a hyperbolic-sine bias that tends to ALiBi.

f(D) = -tau sinh(mu |D|) in the logits, here as the mask exp(f). For one sign
of the lag it is a sum of two products,
  f(t - j) = -(tau / 2) e^{mu t} e^{-mu j} + (tau / 2) e^{-mu t} e^{mu j},
which overflows float32 at mu t > 88 and can't be re-based inside FAVOR+
features, so it has no recurrence that holds. With mu -> 0 at fixed
slope = tau mu it is ALiBi, up to a relative (mu D)^2 / 6.
Source: Angelotti, HyPE: Attention with Hyperbolic Biases for Relative
Positional Encoding, 2023.

Names: `Hype`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from flt_lopt.attention.encodings.base import (
  ENCODINGS,
  Encoding,
  Mask,
  Params,
)


@ENCODINGS.register("hype")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Hype(Encoding):
  """A_tj = exp(q_t . k_j / sqrt(D)) exp(-tau sinh(mu |t - j|)).

  Args:
    mu: its value at initialisation, per unit of position.
  """

  mu: float = 0.01

  forms: ClassVar[frozenset[str]] = frozenset({"dense", "parallel"})
  alternative: ClassVar[str] = (
    "HyPE's factors e^{mu t} overflow at large t and can't be re-based: "
    "use form='parallel' (FFT, causal too), or 'alibi', its limit for small "
    "mu, which is a decay of the state."
  )

  def init(self, key: jax.Array) -> Params:
    """Return log mu and log slope = log(tau mu), per head."""
    del key
    head = jnp.arange(1, self.num_heads + 1, dtype=jnp.float32)
    return {
      "log_mu": jnp.full((self.num_heads,), jnp.log(self.mu)),
      "log_slope": -jnp.log(2.0) * 8 * head / self.num_heads,
    }

  @property
  def toeplitz(self) -> bool:
    """Whether the parallel form must apply the mask by FFT."""
    return True

  def constants(self, params: Params) -> tuple[Array, Array]:
    """Return tau and mu per head."""
    mu = jnp.exp(params["log_mu"])
    return jnp.exp(params["log_slope"]) / mu, mu

  def mask(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Mask | None:
    """Return exp(-tau sinh(mu |lag|_1))."""
    tau, mu = self.constants(params)
    size = jnp.sum(jnp.abs(lags), axis=-1).astype(mu.dtype)[..., None]
    # Beyond 60 the mask is 0 anyway; sinh must not overflow.
    return Mask(-tau * jnp.sinh(jnp.minimum(mu * size, 60.0)))

  def factors(
    self, params: Params, positions: Num[Array, "length coords"]
  ) -> tuple[
    Float[Array, "heads length two"], Float[Array, "heads length two"]
  ]:
    """Return a_t and b_j with a_t . b_j = -tau sinh(mu (t - j)).

    For one coordinate; overflows at mu t > 88.
    """
    tau, mu = self.constants(params)
    turn = mu[:, None] * positions[:, 0].astype(mu.dtype)
    half = 0.5 * tau[:, None]
    up, down = jnp.exp(turn), jnp.exp(-turn)
    query = jnp.stack([-half * up, half * down], axis=-1)
    return query, jnp.stack([down, up], axis=-1)
