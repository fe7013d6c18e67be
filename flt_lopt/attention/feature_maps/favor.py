"""FAVOR+ and its relatives: unbiased positive features of exp(x . y).

With w_i ~ N(0, I), i = 1..M:
  favor_plus        M^(-1/2) exp(w_i . x - |x|^2 / 2)
  favor_hyperbolic  the same with w and -w in pairs (a cosh)
  favor_plus_plus   M^(-1/2) D exp(A |w_i|^2 + B w_i . x - |x|^2 / 2),
                    B = sqrt(1 - 4A), D = (1 - 4A)^(dim / 4)
Each is unbiased. The optimal A depends on the mean of |x + y|^2, which is a
fixed option here: taking it from the batch would be non-causal.
Source: Choromanski et al., Rethinking Attention with Performers, 2021;
Likhosherstov et al., Chefs' Random Tables, 2022 (FAVOR++).

Names: `FavorPlus`, `FavorHyperbolic`, `FavorPlusPlus`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flt_lopt.attention.feature_maps import orthogonal
from flt_lopt.attention.feature_maps.base import (
  FEATURE_MAPS,
  FeatureMap,
  Params,
)
from flt_lopt.attention.numerics import einsum


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomProjection(FeatureMap):
  """Common part of the maps that project on random directions.

  Args:
    orthogonal: rows repel each other (lower variance) if `True`.
  """

  orthogonal: bool = True

  random: ClassVar[bool] = True

  def _rows(self) -> int:
    return self.num_features

  def _complete(self, rows: Array) -> Array:
    return rows

  def redraw(self, key: jax.Array) -> Float[Array, "heads features dim"]:
    """Return a fresh projection to pass as `projection`."""
    return self._complete(
      orthogonal.redraw_projection(
        key,
        num_heads=self.num_heads,
        num_features=self._rows(),
        dim=self.dim,
      )
    )

  def _project(self, x: Array, projection: Array | None) -> tuple[Array, Array]:
    """Return w . x and the rows w."""
    if projection is None:
      rows = orthogonal.constant_projection(
        self.num_heads,
        self._rows(),
        self.dim,
        self.seed,
        self.orthogonal,
      )
      projection = self._complete(jnp.asarray(rows))
    projection = projection.astype(x.dtype)
    return einsum("...hnd,hmd->...hnm", x, projection), projection


def _half_square(x: Array) -> Array:
  return 0.5 * jnp.sum(jnp.square(x), axis=-1, keepdims=True)


@FEATURE_MAPS.register("favor_plus")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FavorPlus(RandomProjection):
  """FAVOR+: log phi(x)_i = w_i . x - |x|^2 / 2 - log(M) / 2."""

  softmax_kernel: ClassVar[bool] = True

  def log_features(
    self,
    params: Params,
    x: Float[Array, "*batch heads length dim"],
    *,
    projection: Float[Array, "heads features dim"] | None = None,
  ) -> Float[Array, "*batch heads length features"]:
    """Return log phi(x); see `FeatureMap.log_features`."""
    del params
    logs, _ = self._project(x, projection)
    return logs - (_half_square(x) + 0.5 * math.log(self.num_features))


@FEATURE_MAPS.register("favor_hyperbolic")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FavorHyperbolic(FavorPlus):
  """FAVOR+ with antithetic pairs w, -w: the cosh features.

  Raises:
    ValueError: `num_features` is odd.
  """

  def __post_init__(self) -> None:
    if self.num_features % 2:
      raise ValueError(
        f"num_features={self.num_features} must be even for "
        f"'favor_hyperbolic' (pairs of w and -w); use "
        f"{self.num_features + 1}."
      )

  def _rows(self) -> int:
    return self.num_features // 2

  def _complete(self, rows: Array) -> Array:
    return jnp.concatenate([rows, -rows], axis=-2)


@FEATURE_MAPS.register("favor_plus_plus")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FavorPlusPlus(RandomProjection):
  """FAVOR++: the positive features of least variance at a given spread.

  Args:
    mean_square: s, the expected |x + y|^2 that A is tuned to. `None` means
      2 sqrt(dim), its value for queries and keys of unit variance.
  """

  mean_square: float | None = None

  softmax_kernel: ClassVar[bool] = True

  def exponent(self) -> float:
    """Return A = (1 - 1/rho) / 8, never positive."""
    s, dim = self.mean_square, self.dim
    if s is None:
      s = 2.0 * math.sqrt(dim)
    if s <= 0:
      return 0.0
    root = math.sqrt((2 * s + dim) ** 2 + 8 * dim * s)
    rho = (root - 2 * s - dim) / (4 * s)
    return (1 - 1 / rho) / 8

  def log_features(
    self,
    params: Params,
    x: Float[Array, "*batch heads length dim"],
    *,
    projection: Float[Array, "heads features dim"] | None = None,
  ) -> Float[Array, "*batch heads length features"]:
    """Return log phi(x); see `FeatureMap.log_features`."""
    del params
    a = self.exponent()
    logs, rows = self._project(x, projection)
    constant = (
      a * jnp.sum(jnp.square(rows), axis=-1)
      + 0.25 * self.dim * np.log1p(-4 * a)
      - 0.5 * math.log(self.num_features)
    )
    logs = math.sqrt(1 - 4 * a) * logs - _half_square(x)
    return logs + constant[:, None, :].astype(x.dtype)
