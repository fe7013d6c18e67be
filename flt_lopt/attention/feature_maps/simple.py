"""Feature maps that do not aim at the softmax kernel, and the kernel itself.

  relu      phi(x)_i = max(w_i . x, 0) + floor, w_i random (Performer-ReLU)
  elu       phi(x)_i = elu(x_i) + 1, M = dim (Katharopoulos et al., 2020)
  constant  phi = 1, M = 1: attention by position alone
  softmax   no finite map: kappa = exp(x . y), for the dense form only

Names: `Relu`, `Elu`, `Constant`, `Softmax`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from flt_lopt.attention.feature_maps.base import (
  FEATURE_MAPS,
  FeatureMap,
  Params,
)
from flt_lopt.attention.feature_maps.favor import RandomProjection


@FEATURE_MAPS.register("relu")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Relu(RandomProjection):
  """Performer-ReLU: phi(x)_i = max(w_i . x, 0) + floor.

  Args:
    floor: keeps the kernel positive.
  """

  floor: float = 1e-3

  def log_features(
    self,
    params: Params,
    x: Float[Array, "*batch heads length dim"],
    *,
    projection: Float[Array, "heads features dim"] | None = None,
  ) -> Float[Array, "*batch heads length features"]:
    """Return log phi(x); see `FeatureMap.log_features`."""
    del params
    projected, _ = self._project(x, projection)
    return jnp.log(jnp.maximum(projected, 0) + self.floor)


@FEATURE_MAPS.register("elu")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Elu(FeatureMap):
  """phi(x)_i = elu(x_i) + 1: exp(x) below 0, 1 + x above.

  Args:
    num_features: must be the width `dim`, or `None` for it.
  """

  num_features: int | None = None  # type: ignore[assignment]

  def __post_init__(self) -> None:
    if self.num_features not in (None, self.dim):
      raise ValueError(
        f"num_features={self.num_features}: 'elu' has as many "
        f"features as the encoding's width; use {self.dim}, or "
        "'relu' for a free number."
      )
    object.__setattr__(self, "num_features", self.dim)

  def log_features(
    self,
    params: Params,
    x: Float[Array, "*batch heads length dim"],
    *,
    projection: Float[Array, "heads features dim"] | None = None,
  ) -> Float[Array, "*batch heads length features"]:
    """Return log phi(x); see `FeatureMap.log_features`."""
    del params, projection
    return jnp.where(x > 0, jnp.log1p(jnp.maximum(x, 0)), x)


@FEATURE_MAPS.register("constant")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant(FeatureMap):
  """phi = 1: unit keys, so that only the encoding's mask remains.

  Args:
    num_features: 1.
  """

  num_features: int = 1

  def __post_init__(self) -> None:
    if self.num_features != 1:
      raise ValueError(f"num_features={self.num_features}: 'constant' has 1.")

  def log_features(
    self,
    params: Params,
    x: Float[Array, "*batch heads length dim"],
    *,
    projection: Float[Array, "heads features dim"] | None = None,
  ) -> Float[Array, "*batch heads length features"]:
    """Return zeros; see `FeatureMap.log_features`."""
    del params, projection
    return jnp.zeros((*x.shape[:-1], 1), x.dtype)


@FEATURE_MAPS.register("softmax")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Softmax(FeatureMap):
  """The exact kernel exp(x . y), which only the dense form can use.

  Args:
    num_features: ignored.
  """

  num_features: int = 0

  finite: ClassVar[bool] = False

  def log_features(
    self,
    params: Params,
    x: Float[Array, "*batch heads length dim"],
    *,
    projection: Float[Array, "heads features dim"] | None = None,
  ) -> Float[Array, "*batch heads length features"]:
    """Refuse; see `FeatureMap.log_features`.

    Raises:
      ValueError: always.
    """
    raise ValueError(
      "Feature map 'softmax' is the exact kernel and has no finite "
      "features; use form='dense' with it, or 'favor_plus', its "
      "unbiased approximation."
    )
