"""Learned Fourier transforms as encodings: what all FLT variants share.

A variant gives lines: frequencies xi_l and complex weights c_l = a_l + i b_l
(integration weights included), with
  f(D) ~ sum_l a_l cos(2 pi xi_l . D) - b_l sin(2 pi xi_l . D).
In logit mode the features (cos, sin) are concatenated to queries and keys,
the ratio split evenly, |c|^(1/2) on each side, its phase on the query. In
mask mode the lines are undamped poles and h = f.
Source: Choromanski et al., Learning a Fourier Transform for Linear Relative
Positional Encodings in Transformers, 2024.

Names: `SpectralEncoding`, `Lines`.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from flt_lopt.attention.encodings.base import (
  Encoding,
  Mask,
  Params,
  Poles,
)
from flt_lopt.attention.numerics import cos_sin, phase

MODES = ("logit", "mask")


class Lines(NamedTuple):
  """A line spectrum; `imag=None` for an even f."""

  frequency: Float[Array, "heads lines coords"]  # turns per scaled unit
  real: Float[Array, "heads lines"]
  imag: Float[Array, "heads lines"] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpectralEncoding(Encoding):
  """Base of the FLT family.

  Args:
    num_lines: m, number of spectral lines; adds 2m features in logit mode.
    mode: "logit" (f is added to the logits, the paper's form) or "mask"
      (f multiplies the kernel; normalised by the mass sum |c_l|).
    coordinate_scale: factor on positions. With integer positions choose
      about 1 / length, since spectra have width O(1) and raw counters
      alias; 1 for coordinates that are O(1) already.
    decay: learn a rate per head by which old tokens fade,
      exp(-rate |D|), on top; free in every causal form.
    decay_scale: typical memory, in scaled units, that decay starts from;
      heads spread over a decade around it.
  """

  num_lines: int = 16
  mode: str = "logit"
  coordinate_scale: float = 1.0
  decay: bool = False
  decay_scale: float = 1.0

  symmetric: ClassVar[bool] = True

  def __post_init__(self) -> None:
    if self.mode not in MODES:
      raise ValueError(f"mode={self.mode!r} is none of {', '.join(MODES)}.")

  @abc.abstractmethod
  def lines(self, params: Params) -> Lines:
    """Return the spectrum, in turns per scaled unit."""

  @property
  def encoded_dim(self) -> int:
    """Width of encoded queries and keys."""
    extra = 2 * self.num_lines if self.mode == "logit" else 0
    return self.head_dim + extra

  @property
  def toeplitz(self) -> bool:
    """Whether the parallel form must apply the mask by FFT."""
    return self.decay

  def init_decay(self) -> Params:
    """Return the parameters of the optional decay."""
    if not self.decay:
      return {}
    spread = jnp.log(10.0) * head_offsets(self.num_heads)
    rate = spread - jnp.log(self.decay_scale * self.coord_dim)
    rates = jnp.broadcast_to(rate[:, None], (self.num_heads, self.coord_dim))
    return {"log_decay": rates.astype(jnp.float32)}

  def _rates(self, params: Params) -> Array | None:
    if not self.decay:
      return None
    return jnp.exp(params["log_decay"]) * self.coordinate_scale

  def _wave(
    self, lines: Lines, positions: Num[Array, "*shape coords"]
  ) -> tuple[Array, Array]:
    return cos_sin(phase(lines.frequency * self.coordinate_scale, positions))

  def _concatenate(self, x: Array, extra: Array) -> Array:
    # extra: [*batch, length, heads, 2m] -> before the length axis.
    extra = jnp.moveaxis(extra, -2, -3).astype(x.dtype)
    shape = (*x.shape[:-1], extra.shape[-1])
    return jnp.concatenate(
      [self.scale(x), jnp.broadcast_to(extra, shape)], axis=-1
    )

  def queries(
    self,
    params: Params,
    q: Float[Array, "*batch heads length dim"],
    positions: Num[Array, "*batch length coords"],
  ) -> Float[Array, "*batch heads length encoded"]:
    """Return [q / D^(1/4), |c|^(1/2) (cos, sin) turned by arg c]."""
    if self.mode == "mask":
      return self.scale(q)
    lines = self.lines(params)
    cos, sin = self._wave(lines, positions)
    root = _fourth_root_of_square(lines)
    a = lines.real / root
    if lines.imag is None:
      extra = [a * cos, a * sin]
    else:
      b = lines.imag / root
      extra = [a * cos - b * sin, a * sin + b * cos]
    return self._concatenate(q, jnp.concatenate(extra, axis=-1))

  def keys(
    self,
    params: Params,
    k: Float[Array, "*batch heads length dim"],
    positions: Num[Array, "*batch length coords"],
  ) -> Float[Array, "*batch heads length encoded"]:
    """Return [k / D^(1/4), |c|^(1/2) (cos, sin)]."""
    if self.mode == "mask":
      return self.scale(k)
    lines = self.lines(params)
    root = _fourth_root_of_square(lines)
    wave = [root * part for part in self._wave(lines, positions)]
    return self._concatenate(k, jnp.concatenate(wave, axis=-1))

  def poles(self, params: Params) -> Poles | None:
    """Return decay alone (logit mode) or the damped lines (mask mode)."""
    rates = self._rates(params)
    if self.mode == "logit":
      if rates is None:
        return None
      return Poles(rates[:, None, :], jnp.ones_like(rates[:, :1]))
    lines = self.lines(params)
    if rates is None:
      rates = jnp.zeros_like(lines.frequency[:, 0, :])
    decay = jnp.broadcast_to(rates[:, None, :], lines.frequency.shape)
    return Poles(
      decay,
      lines.real,
      lines.imag,
      lines.frequency * self.coordinate_scale,
    )

  def spectrum_bias(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Float[Array, "*shape heads"]:
    """Return sum_l Re(c_l e^{2 pi i xi_l . lag}), what the lines give."""
    lines = self.lines(params)
    cos, sin = self._wave(lines, lags)
    value = jnp.sum(lines.real * cos, axis=-1)
    if lines.imag is not None:
      value = value - jnp.sum(lines.imag * sin, axis=-1)
    return value

  def closed_form(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Float[Array, "*shape heads"]:
    """Return the exact f(lag); by default the lines are exact."""
    return self.spectrum_bias(params, lags)

  def ideal_mask(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Mask | None:
    """Return the mask with the exact f in place of its lines."""
    mask = self.mask(params, lags)
    if mask is None or self.mode == "logit":
      return mask
    square = jnp.square(self.lines(params).real)
    imag = self.lines(params).imag
    if imag is not None:
      square = square + jnp.square(imag)
    amplitude = jnp.sum(jnp.sqrt(square), axis=-1)
    return Mask(mask.log_mass, self.closed_form(params, lags) / amplitude)

  def bias(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Float[Array, "*shape heads"] | None:
    """Return the exact f(lag) in logit mode."""
    if self.mode == "mask":
      return None
    return self.closed_form(params, lags)


def head_offsets(num_heads: int) -> Float[Array, "heads"]:
  """Return evenly spaced numbers in (-1/2, 1/2); 0 for one head."""
  return (jnp.arange(num_heads) + 0.5) / num_heads - 0.5


def _fourth_root_of_square(lines: Lines) -> Array:
  """Return |c|^(1/2), kept away from 0 so that gradients stay finite."""
  square = jnp.square(lines.real)
  if lines.imag is not None:
    square = square + jnp.square(lines.imag)
  return (square + 1e-12) ** 0.25
