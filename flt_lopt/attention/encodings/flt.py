"""FLT with a Gaussian-mixture spectrum, unbiased, in any dimension.

  g(xi) = sum_k w_k exp(-|xi - mu_k|^2 / s_k)
  f(D)  = sum_k w_k (pi s_k)^(d/2) exp(-pi^2 s_k |D|^2) cos(2 pi mu_k . D)
Three ways to the m lines that stand for g:
  reparametrised  xi = mu_k + sqrt(s_k / 2) eps, eps fixed: the weights do not
                  vary, so f is exact at D = 0 and gradients reach mu and s;
  gauss_hermite   quadrature nodes instead of eps: exact to 1e-6 for small
                  |D|, deterministic;
  monte_carlo     xi ~ N(0, I) fixed, weights g(xi) / p(xi), the ratio used
                  once and with the d-dimensional density.
Every finite number of lines gives an almost periodic f.
Source: Choromanski et al., Learning a Fourier Transform for Linear Relative
Positional Encodings in Transformers, 2024.

Names: `Flt`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from flt_lopt.attention.encodings.base import ENCODINGS, Params
from flt_lopt.attention.encodings.spectral import Lines, SpectralEncoding
from flt_lopt.attention.numerics import cos_sin, einsum

SAMPLINGS = ("reparametrised", "gauss_hermite", "monte_carlo")
# Below 4, the estimator with p = N(0, I) has finite variance.
MAX_WIDTH = 3.0


@ENCODINGS.register("flt")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Flt(SpectralEncoding):
  """Gaussian-mixture FLT; see `SpectralEncoding` for the other options.

  Args:
    num_components: K, Gaussians per head; must divide `num_lines` unless
      sampling is "monte_carlo".
    sampling: "reparametrised", "gauss_hermite" or "monte_carlo".
    amplitude: size of f at initialisation, small but not zero.
    seed: numpy seed of the sampled points.

  Raises:
    ValueError: unknown sampling, or `num_lines` that can't be shared out.
  """

  num_components: int = 4
  sampling: str = "reparametrised"
  amplitude: float = 0.1
  seed: int = 0

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.sampling not in SAMPLINGS:
      raise ValueError(
        f"sampling={self.sampling!r} is none of {', '.join(SAMPLINGS)}."
      )
    if self.sampling == "monte_carlo":
      return
    per, rest = divmod(self.num_lines, self.num_components)
    if rest or per == 0:
      raise ValueError(
        f"num_components={self.num_components} must divide "
        f"num_lines={self.num_lines} with sampling="
        f"{self.sampling!r}; use num_lines="
        f"{self.num_components * max(per, 1)}."
      )
    if self.sampling == "gauss_hermite" and _root(per, self.coord_dim) == 0:
      raise ValueError(
        f"num_lines / num_components = {per} must be a power of "
        f"coord_dim={self.coord_dim} for a product grid; use "
        f"num_lines={self.num_components * 2**self.coord_dim}."
      )

  def init(self, key: jax.Array) -> Params:
    """Return weights, centres (spread) and widths of the mixture."""
    shape = (self.num_heads, self.num_components)
    count = self.num_heads * self.num_components
    # Centres cover |mu| < 1 evenly, interleaved over heads.
    radius = jnp.asarray((np.arange(count) + 0.5) / count, jnp.float32)
    radius = radius.reshape(shape[::-1]).T
    direction = jax.random.normal(key, (*shape, self.coord_dim))
    direction = direction / jnp.linalg.norm(direction, axis=-1, keepdims=True)
    log_width = jnp.linspace(-2.0, 0.0, self.num_components)
    log_width = jnp.broadcast_to(log_width, shape)
    width = MAX_WIDTH * jax.nn.sigmoid(log_width)
    volume = (jnp.pi * width) ** (self.coord_dim / 2)
    return {
      "weight": self.amplitude / self.num_components / volume,
      "mean": radius[..., None] * direction,
      "width": log_width,
      **self.init_decay(),
    }

  def mixture(self, params: Params) -> tuple[Array, Array, Array]:
    """Return w `[heads, K]`, mu `[heads, K, coords]`, s `[heads, K]`."""
    width = MAX_WIDTH * jax.nn.sigmoid(params["width"])
    return params["weight"], params["mean"], width

  def density(
    self, params: Params, xi: Float[Array, "heads lines coords"]
  ) -> Float[Array, "heads lines"]:
    """Return the spectrum g at frequencies."""
    weight, mean, width = self.mixture(params)
    offset = xi[:, :, None, :] - mean[:, None, :, :]
    square = jnp.sum(jnp.square(offset), axis=-1)
    bumps = jnp.exp(-square / width[:, None, :])
    return jnp.sum(weight[:, None, :] * bumps, axis=-1)

  def lines(self, params: Params) -> Lines:
    """Return the lines that stand for the mixture."""
    if self.sampling == "monte_carlo":
      xi = jnp.asarray(self._normal_points(self.num_lines))
      log_p = -0.5 * jnp.sum(jnp.square(xi), axis=-1)
      log_p = log_p - 0.5 * self.coord_dim * math.log(2 * math.pi)
      ratio = self.density(params, xi) * jnp.exp(-log_p)
      return Lines(xi, ratio / self.num_lines)
    weight, mean, width = self.mixture(params)
    per = self.num_lines // self.num_components
    if self.sampling == "gauss_hermite":
      points, shares = self._hermite_points(per)
    else:
      points = self._normal_points(self.num_lines)
      points = points.reshape(
        self.num_heads, self.num_components, per, self.coord_dim
      )
      shares = np.full(per, 1 / per, np.float32)
    spread = jnp.sqrt(width / 2)[:, :, None, None]
    xi = mean[:, :, None, :] + spread * points
    volume = (jnp.pi * width) ** (self.coord_dim / 2)
    real = (weight * volume)[:, :, None] * shares
    shape = (self.num_heads, self.num_lines)
    return Lines(xi.reshape(*shape, self.coord_dim), real.reshape(shape))

  def _normal_points(self, count: int) -> np.ndarray:
    rng = np.random.default_rng(self.seed)
    shape = (self.num_heads, count, self.coord_dim)
    return rng.standard_normal(shape).astype(np.float32)

  def _hermite_points(self, per: int) -> tuple[np.ndarray, np.ndarray]:
    """Return nodes of N(0, I) `[per, coords]` and weights that sum to 1."""
    count = _root(per, self.coord_dim)
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    weights = weights / weights.sum()
    grid = list(itertools.product(nodes, repeat=self.coord_dim))
    share = [
      np.prod(w) for w in itertools.product(weights, repeat=self.coord_dim)
    ]
    return np.asarray(grid, np.float32), np.asarray(share, np.float32)

  def closed_form(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Float[Array, "*shape heads"]:
    """Return f(lag) of the whole mixture."""
    weight, mean, width = self.mixture(params)
    lag = lags.astype(weight.dtype) * self.coordinate_scale
    square = jnp.sum(jnp.square(lag), axis=-1)[..., None, None]
    cos, _ = cos_sin(einsum("...d,hkd->...hk", lag, mean))
    volume = (jnp.pi * width) ** (self.coord_dim / 2)
    envelope = jnp.exp(-(jnp.pi**2) * width * square)
    bumps = weight * volume * envelope * cos
    return jnp.sum(bumps, axis=-1)


def _root(count: int, dim: int) -> int:
  """Return the integer dim-th root of count, or 0 if there is none."""
  root = round(count ** (1 / dim))
  return root if root**dim == count else 0
