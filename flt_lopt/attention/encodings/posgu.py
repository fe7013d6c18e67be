"""PosMLP's token mixing: a mask alone, learned as a table or a Gaussian.

  posgu       (GQPE) W_tj = softmax_j(-|B^T (D - delta)|^2 / 2),
              D = r_t - r_j: a Gaussian with learned centre and precision
              A = B B^T, never negative
  posgu_lrpe  (LRPE) W_tj = w_{t-j}, a free signed table, no normalisation:
              an FIR filter over max_lag steps
Meant for feature_map="constant"; with any other map the kernel multiplies W.
The gating unit out = (W u + b) * v is the Haiku module `PosGU`.
Source: Wang et al., Parameterization of Cross-Token Relations with Relative
Positional Encoding for Vision MLP, 2022.

Names: `PosguGqpe`, `PosguLrpe`.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num

from flt_lopt.attention.encodings.base import (
  ENCODINGS,
  Encoding,
  Mask,
  Params,
)
from flt_lopt.attention.encodings.nprf import require_one_coordinate
from flt_lopt.attention.encodings.table import table_at
from flt_lopt.attention.numerics import NEGATIVE, einsum


@ENCODINGS.register("posgu_lrpe")
@dataclasses.dataclass(frozen=True, kw_only=True)
class PosguLrpe(Encoding):
  """A free signed filter over lags; 0 beyond `max_lag`.

  Args:
    max_lag: largest |lag| of the filter. Causal forms keep
      max_lag + 1 tokens.
  """

  max_lag: int = 16

  integer_positions: ClassVar[bool] = True
  normalised: ClassVar[bool] = False

  def __post_init__(self) -> None:
    require_one_coordinate(self)

  @property
  def toeplitz(self) -> bool:
    """Whether the parallel form must apply the mask by FFT."""
    return True

  @property
  def window(self) -> int | None:
    """How many tokens causal forms keep."""
    return self.max_lag + 1

  def init(self, key: jax.Array) -> Params:
    """Return the table: near the identity, plus small noise."""
    count = 2 * self.max_lag + 1
    noise = jax.random.normal(key, (self.num_heads, count)) * 0.1
    return {"table": noise.at[:, self.max_lag].add(1.0)}

  def mask(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Mask | None:
    """Return w as its size and its sign."""
    weight = table_at(params["table"], lags, self.max_lag)
    # Bounded away from 0 so that the gradient of the product is exact.
    size = jnp.sqrt(jnp.square(weight) + 1e-12)
    inside = jnp.abs(lags) <= self.max_lag
    log_mass = jnp.where(inside, jnp.log(size), NEGATIVE)
    return Mask(log_mass, weight / size)


@ENCODINGS.register("posgu")
@dataclasses.dataclass(frozen=True, kw_only=True)
class PosguGqpe(Encoding):
  """A Gaussian of the lag, normalised over the keys.

  Args:
    coordinate_scale: factor on positions.
    spread: standard deviation of the centre at initialisation.
  """

  coordinate_scale: float = 1.0
  spread: float = 1e-2

  forms: ClassVar[frozenset[str]] = frozenset({"dense", "parallel"})
  alternative: ClassVar[str] = (
    "A Gaussian of the lag has no finite-state recurrence: use form="
    "'parallel' (FFT, causal too), or fit_poles (4 poles: an error of "
    "3e-4) and 'flt_damped'."
  )

  @property
  def toeplitz(self) -> bool:
    """Whether the parallel form must apply the mask by FFT."""
    return True

  def init(self, key: jax.Array) -> Params:
    """Return B `[heads, coords, coords]` near I and delta near 0."""
    key_root, key_centre = jax.random.split(key)
    dim = self.coord_dim
    noise = jax.random.normal(key_root, (self.num_heads, dim, dim))
    centre = jax.random.normal(key_centre, (self.num_heads, dim))
    return {
      "root": jnp.eye(dim) + self.spread * noise,
      "centre": self.spread * centre,
    }

  def mask(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Mask | None:
    """Return the Gaussian before normalisation."""
    lag = lags.astype(params["root"].dtype) * self.coordinate_scale
    offset = lag[..., None, :] - params["centre"]
    turned = einsum("...hd,hde->...he", offset, params["root"])
    return Mask(-0.5 * jnp.sum(jnp.square(turned), axis=-1))
