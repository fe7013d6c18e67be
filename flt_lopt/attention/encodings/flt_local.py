"""Local attention through FLT: a box with tapered edges.

A sharp box 1[|D| <= v] has g = sin(2 pi v xi) / (pi xi), which is not
integrable: no sampling estimates it with finite variance. Tapered by a
Gaussian of width sigma,
  g(xi) = C prod_i sin(2 pi v_i xi_i) / (pi xi_i) e^{-2 pi^2 sigma^2 xi_i^2}
  f(D)  = C prod_i (erf((v_i - D_i) / (sigma sqrt 2))
                    + erf((v_i + D_i) / (sigma sqrt 2))) / 2.
Lines on a grid make f periodic with `period` and exact within it; sampled
lines, xi ~ N(0, 1 / (2 pi sigma)^2), are unbiased in any dimension. For a
sharp box over whole steps see `flt_local_exact`.
Source: Choromanski et al., Learning a Fourier Transform for Linear Relative
Positional Encodings in Transformers, 2024 (the local variant).

Names: `FltLocal`.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from flt_lopt.attention.encodings.base import ENCODINGS, Params
from flt_lopt.attention.encodings.spectral import (
  Lines,
  SpectralEncoding,
  head_offsets,
)

SAMPLINGS = ("grid", "monte_carlo")


@ENCODINGS.register("flt_local")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FltLocal(SpectralEncoding):
  """A learned box; see `SpectralEncoding` for the other options.

  Args:
    half_width: v at initialisation, in scaled units; heads start from half
      to twice of it.
    taper: sigma, fixed, in scaled units.
    amplitude: C at initialisation.
    sampling: "grid" (one coordinate) or "monte_carlo".
    period: of a grid's f; must exceed the largest |lag| + v.
    seed: numpy seed of sampled frequencies.

  Raises:
    ValueError: unknown sampling, or a grid in several coordinates.
  """

  half_width: float = 0.25
  taper: float = 0.1
  amplitude: float = 1.0
  sampling: str = "grid"
  period: float = 4.0
  seed: int = 0

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.sampling not in SAMPLINGS:
      raise ValueError(
        f"sampling={self.sampling!r} is none of {', '.join(SAMPLINGS)}."
      )
    if self.sampling == "grid" and self.coord_dim != 1:
      raise ValueError(
        f"sampling='grid' is for one coordinate, coord_dim="
        f"{self.coord_dim}; use sampling='monte_carlo'."
      )

  def init(self, key: jax.Array) -> Params:
    """Return amplitudes and log half-widths."""
    del key
    spread = 4.0 ** head_offsets(self.num_heads)
    width = jnp.log(self.half_width * spread)[:, None]
    return {
      "amplitude": jnp.full((self.num_heads,), self.amplitude),
      "log_half_width": jnp.broadcast_to(
        width, (self.num_heads, self.coord_dim)
      ).astype(jnp.float32),
      **self.init_decay(),
    }

  def _density(
    self, params: Params, xi: Float[Array, "heads lines coords"]
  ) -> Float[Array, "heads lines"]:
    """Return the sharp box's g, without the taper."""
    width = jnp.exp(params["log_half_width"])[:, None, :]
    box = 2 * width * jnp.sinc(2 * width * xi)
    return params["amplitude"][:, None] * jnp.prod(box, axis=-1)

  def lines(self, params: Params) -> Lines:
    """Return the lines that stand for the tapered box."""
    points = self._grid() if self.sampling == "grid" else self._samples()
    xi, share = (jnp.asarray(x, jnp.float32) for x in points)
    return Lines(xi, self._density(params, xi) * share)

  def _grid(self) -> tuple[np.ndarray, np.ndarray]:
    """Return xi = l / period and the taper times the spacing."""
    order = np.arange(self.num_lines)
    xi = np.tile(order / self.period, (self.num_heads, 1))[..., None]
    share = np.where(order > 0, 2.0, 1.0) / self.period
    return xi, share * np.exp(-2 * (np.pi * self.taper * xi[..., 0]) ** 2)

  def _samples(self) -> tuple[np.ndarray, np.ndarray]:
    """Return samples of the taper and taper / density / num_lines."""
    rng = np.random.default_rng(self.seed)
    deviation = 1 / (2 * math.pi * self.taper)
    shape = (self.num_heads, self.num_lines, self.coord_dim)
    volume = (deviation * math.sqrt(2 * math.pi)) ** self.coord_dim
    share = np.full((self.num_heads, 1), volume / self.num_lines)
    return deviation * rng.standard_normal(shape), share

  def closed_form(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Float[Array, "*shape heads"]:
    """Return the box smoothed by a Gaussian."""
    width = jnp.exp(params["log_half_width"])
    lag = lags.astype(width.dtype)[..., None, :] * self.coordinate_scale
    scale = self.taper * math.sqrt(2.0)
    upper = jax.scipy.special.erf((width + lag) / scale)
    lower = jax.scipy.special.erf((width - lag) / scale)
    return params["amplitude"] * jnp.prod(0.5 * (upper + lower), axis=-1)
