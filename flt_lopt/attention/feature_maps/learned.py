"""A learned exponential feature map.

  phi(x)_i = exp(w_i . x - |x|^2 / 2 + b_i) / sqrt(M)
with learned w and b, which start as FAVOR+'s hyperbolic features, so an
untrained map is an unbiased estimate of the softmax kernel.
Source: Zhang et al., The Hedgehog & the Porcupine, 2024 (the idea).

Names: `Learned`.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from flt_lopt.attention.feature_maps import orthogonal
from flt_lopt.attention.feature_maps.base import (
  FEATURE_MAPS,
  FeatureMap,
  Params,
)
from flt_lopt.attention.numerics import einsum


@FEATURE_MAPS.register("learned")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Learned(FeatureMap):
  """Learned exponential features; needs `init`.

  Raises:
    ValueError: `num_features` is odd.
  """

  def __post_init__(self) -> None:
    if self.num_features % 2:
      raise ValueError(
        f"num_features={self.num_features} must be even for "
        f"'learned' (it starts from pairs); use "
        f"{self.num_features + 1}."
      )

  def init(self, key: jax.Array) -> Params:
    """Return weights `[heads, M, dim]` and offsets `[heads, M]`."""
    rows = orthogonal.redraw_projection(
      key,
      num_heads=self.num_heads,
      num_features=self.num_features // 2,
      dim=self.dim,
    )
    weight = jnp.concatenate([rows, -rows], axis=1)
    offset = jnp.zeros((self.num_heads, self.num_features))
    return {"weight": weight, "offset": offset}

  def log_features(
    self,
    params: Params,
    x: Float[Array, "*batch heads length dim"],
    *,
    projection: Float[Array, "heads features dim"] | None = None,
  ) -> Float[Array, "*batch heads length features"]:
    """Return log phi(x); see `FeatureMap.log_features`."""
    del projection
    if not params:
      raise ValueError(
        "Feature map 'learned' has parameters; make params with the "
        "attention's init, not the encoding's."
      )
    logs = einsum("...hnd,hmd->...hnm", x, params["weight"])
    square = 0.5 * jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    offset = params["offset"][:, None, :]
    return logs + offset - square - 0.5 * math.log(self.num_features)
