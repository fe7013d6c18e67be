"""ALiBi: a linear bias, which is a scalar decay of the state.

f(D) = -s |D| in the logits is the same as the mask h(D) = exp(-s |D|), so a
causal recurrence multiplies its state by exp(-s) per step: it costs nothing.
Slopes start at 2^(-8 (i + 1) / heads) for head i and are learned through
their logarithm.
Source: Press et al., Train Short, Test Long, 2022.

Names: `Alibi`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from flt_lopt.attention.encodings.base import (
  ENCODINGS,
  Encoding,
  Params,
  Poles,
)


@ENCODINGS.register("alibi")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Alibi(Encoding):
  """A_tj = exp(q_t . k_j / sqrt(D)) exp(-s |r_t - r_j|_1)."""

  def init(self, key: jax.Array) -> Params:
    """Return log slopes, `[heads, coords]`."""
    del key
    head = jnp.arange(1, self.num_heads + 1, dtype=jnp.float32)
    log_slope = -jnp.log(2.0) * 8 * head / self.num_heads
    shape = (self.num_heads, self.coord_dim)
    return {"log_slope": jnp.broadcast_to(log_slope[:, None], shape)}

  @property
  def toeplitz(self) -> bool:
    """Whether the parallel form must apply the mask by FFT."""
    return True

  def poles(self, params: Params) -> Poles:
    """Return one real pole per head."""
    slope = jnp.exp(params["log_slope"])
    return Poles(slope[:, None, :], jnp.ones_like(slope[:, :1]))
