"""RoPE: rotate queries and keys, so that logits see the lag only.

logit_tj = q_t . R(t - j) k_j / sqrt(D), R a rotation of D/2 planes with
frequencies base^(-2i/D) / (2 pi) turns per unit. The *content* is rotated,
before the feature map: the features of rotated vectors are positive, and so
is the normaliser. With several coordinates, planes take them in turn.
Source: Su et al., RoFormer: Enhanced Transformer with Rotary Position
Embedding, 2021.

Names: `Rope`.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from flt_lopt.attention.encodings.base import (
  ENCODINGS,
  Encoding,
  Params,
)
from flt_lopt.attention.numerics import cos_sin, einsum, phase


@ENCODINGS.register("rope")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Rope(Encoding):
  """Rotary position embedding.

  Args:
    base: ratio of the fastest and slowest frequency.
    learned: whether frequencies are learned (as factors exp(raw)).

  Raises:
    ValueError: an odd `head_dim`.
  """

  base: float = 10_000.0
  learned: bool = False

  def __post_init__(self) -> None:
    if self.head_dim % 2:
      raise ValueError(
        f"head_dim={self.head_dim} must be even for 'rope' (planes "
        f"of two); use {self.head_dim + 1}."
      )

  def init(self, key: jax.Array) -> Params:
    """Return nothing, or log factors `[heads, planes]`."""
    del key
    if not self.learned:
      return {}
    return {"log_factor": jnp.zeros((self.num_heads, self.head_dim // 2))}

  def _turns(
    self, params: Params, positions: Num[Array, "*shape coords"]
  ) -> Float[Array, "*shape heads planes"]:
    planes = self.head_dim // 2
    index = np.arange(planes)
    size = self.base ** (-index / planes) / (2 * np.pi)
    axis = np.eye(self.coord_dim)[index % self.coord_dim]
    frequency = jnp.asarray(size[:, None] * axis, jnp.float32)
    frequency = jnp.tile(frequency, (self.num_heads, 1, 1))
    if self.learned:
      frequency *= jnp.exp(params["log_factor"])[..., None]
    return phase(frequency, positions)

  def queries(
    self,
    params: Params,
    q: Float[Array, "*batch heads length dim"],
    positions: Num[Array, "*batch length coords"],
  ) -> Float[Array, "*batch heads length encoded"]:
    """Return rotated content."""
    turns = jnp.moveaxis(self._turns(params, positions), -2, -3)
    cos, sin = cos_sin(turns)
    first, second = jnp.split(self.scale(q), 2, axis=-1)
    turned = [first * cos - second * sin, first * sin + second * cos]
    return jnp.concatenate(turned, axis=-1)

  def logits(
    self,
    params: Params,
    q: Float[Array, "*batch heads length dim"],
    k: Float[Array, "*batch heads keys dim"],
    query_positions: Num[Array, "*batch length coords"],
    key_positions: Num[Array, "*batch keys coords"],
  ) -> Float[Array, "*batch heads length keys"]:
    """Return q R(lag) k / sqrt(D)."""
    return einsum(
      "...nd,...md->...nm",
      self.queries(params, q, query_positions),
      self.keys(params, k, key_positions),
    )
