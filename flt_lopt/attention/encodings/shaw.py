"""Shaw's relative positions: a learned vector per lag, the dense classic.

logit_tj = q_t . (k_j + a_{t-j}) / sqrt(D), lags clipped to +-max_lag. The
term q . a depends on content and lag together, so it is neither a mask nor a
bias, and only the exact kernel in the dense form can have it.
Source: Shaw et al., Self-Attention with Relative Position Representations,
2018; Huang et al., Music Transformer, 2018.

Names: `Shaw`.
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
  Params,
  pairwise_lags,
)
from flt_lopt.attention.encodings.nprf import require_one_coordinate
from flt_lopt.attention.encodings.table import lag_index
from flt_lopt.attention.numerics import einsum


@ENCODINGS.register("shaw")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Shaw(Encoding):
  """A learned vector per lag.

  Args:
    max_lag: largest |lag| with a vector of its own.
    spread: standard deviation of the vectors at initialisation.
  """

  max_lag: int = 16
  spread: float = 0.1

  forms: ClassVar[frozenset[str]] = frozenset({"dense"})
  alternative: ClassVar[str] = (
    "Its term q . a depends on content and lag together: use form="
    "'dense' with feature_map='softmax', or 'nprf' (a bias per lag, by "
    "FFT)."
  )
  integer_positions: ClassVar[bool] = True
  logits_only: ClassVar[bool] = True

  def __post_init__(self) -> None:
    require_one_coordinate(self)

  def init(self, key: jax.Array) -> Params:
    """Return vectors `[heads, 2 max_lag + 1, dim]`."""
    shape = (self.num_heads, 2 * self.max_lag + 1, self.head_dim)
    return {"vectors": self.spread * jax.random.normal(key, shape)}

  def logits(
    self,
    params: Params,
    q: Float[Array, "*batch heads length dim"],
    k: Float[Array, "*batch heads keys dim"],
    query_positions: Num[Array, "*batch length coords"],
    key_positions: Num[Array, "*batch keys coords"],
  ) -> Float[Array, "*batch heads length keys"]:
    """Return q . (k + a) / sqrt(D)."""
    q = self.scale(q)
    content = einsum("...nd,...md->...nm", q, self.scale(k))
    vectors = self.scale(params["vectors"])
    by_lag = einsum("...hnd,hld->...hnl", q, vectors)
    lags = pairwise_lags(query_positions, key_positions)
    index = lag_index(lags, self.max_lag)[..., None, :, :]
    index = jnp.broadcast_to(index, content.shape)
    return content + jnp.take_along_axis(by_lag, index, axis=-1)
