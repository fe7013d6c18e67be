"""Fit damped poles to a given mask, so that it streams.

A free table h(0..n-1) has no finite recurrence, but is often close to
h(D) = Re sum_p c_p lambda_p^D with few poles. The poles are the eigenvalues
of the shift between the leading singular vectors of the Hankel matrix of h
(Kung's realisation, close to the best that n real floats of state can do);
the weights then solve least squares over all lags.
Source: Kung, A New Identification and Model Reduction Algorithm via Singular
Value Decomposition, 1978.

Names: `fit_poles`, `PoleFit`.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from flt_lopt.attention.encodings.base import Params, Poles
from flt_lopt.attention.encodings.flt_damped import (
  MAX_DECAY,
  MIN_DECAY,
  FltDamped,
)

# Longer masks are fitted from a Hankel matrix of this many rows.
_MAX_ROWS = 1000


@dataclasses.dataclass(frozen=True)
class PoleFit:
  """Poles that stand for a mask.

  Args:
    decay: alpha per step, `[heads, poles]`.
    frequency: xi, turns per step, `[heads, poles]`.
    real: Re c.
    imag: Im c.
    relative_error: l2 error over the given lags, over the mask's l2 norm,
      per head.
    state_floats: real floats of state per head that the poles need.
  """

  decay: Float[np.ndarray, "heads poles"]
  frequency: Float[np.ndarray, "heads poles"]
  real: Float[np.ndarray, "heads poles"]
  imag: Float[np.ndarray, "heads poles"]
  relative_error: Float[np.ndarray, "heads"]
  state_floats: Float[np.ndarray, "heads"]

  def poles(self) -> Poles:
    """Return the fit as a mask description."""
    return Poles(
      jnp.asarray(self.decay, jnp.float32)[..., None],
      jnp.asarray(self.real, jnp.float32),
      jnp.asarray(self.imag, jnp.float32),
      jnp.asarray(self.frequency, jnp.float32)[..., None],
    )

  def encoding(self, *, head_dim: int) -> tuple[FltDamped, Params]:
    """Return a `flt_damped` encoding and parameters with this mask."""
    heads, count = self.real.shape
    encoding = FltDamped(num_heads=heads, head_dim=head_dim, num_poles=count)
    share = np.clip(2 * self.frequency, 1e-7, 1 - 1e-7)
    raw = np.log(share) - np.log1p(-share)
    params = {
      "log_decay": np.log(self.decay)[..., None],
      "frequency": raw[..., None],
      "real": self.real,
      "imag": self.imag,
    }
    return encoding, {
      name: jnp.asarray(x, jnp.float32) for name, x in params.items()
    }


def fit_poles(
  mask: Float[np.ndarray, "*heads lags"],
  *,
  num_floats: int,
) -> PoleFit:
  """Fit poles to the causal part of a mask, h(0), h(1), ....

  Args:
    mask: h at lags 0, 1, ..., at least 2 num_floats of them; `[lags]` is
      one head. For a table b of log-masks pass exp(b).
    num_floats: real floats of state to spend per head: a real pole costs
      one, a complex one two.

  Returns:
    The poles, their weights and the error reached.

  Raises:
    ValueError: too few lags, or numbers that are not finite.

  Example:
    >>> fit = fit_poles(0.9 ** np.arange(200), num_floats=1)
    >>> encoding, params = fit.encoding(head_dim=8)
  """
  table = np.atleast_2d(np.asarray(mask, np.float64))
  if not np.all(np.isfinite(table)):
    raise ValueError("mask has entries that are not finite; mend them.")
  if num_floats < 1 or table.shape[-1] < 2 * num_floats:
    raise ValueError(
      f"num_floats={num_floats} needs at least 1 and at most "
      f"{table.shape[-1] // 2} with a mask of {table.shape[-1]} lags."
    )
  fits = [_fit_head(h, num_floats) for h in table]
  count = max(len(f[0]) for f in fits)

  def column(i: int, filler: float) -> np.ndarray:
    rows = [
      np.pad(f[i], (0, count - len(f[i])), constant_values=filler) for f in fits
    ]
    return np.stack(rows)

  return PoleFit(
    decay=column(0, 1.0),
    frequency=column(1, 0.0),
    real=column(2, 0.0),
    imag=column(3, 0.0),
    relative_error=np.array([f[4] for f in fits]),
    state_floats=np.array([f[5] for f in fits]),
  )


def _fit_head(h: np.ndarray, num_floats: int) -> tuple:
  eigenvalues = _hankel_eigenvalues(h, num_floats)
  # One of each conjugate pair stands for both.
  upper = eigenvalues[eigenvalues.imag >= 0]
  decay = np.clip(-np.log(np.maximum(np.abs(upper), 1e-12)), MIN_DECAY, None)
  decay = np.minimum(decay, MAX_DECAY)
  frequency = np.angle(upper) / (2 * np.pi)
  is_real = np.abs(upper.imag) < 1e-12
  lags = np.arange(len(h))
  wave = np.exp(np.outer(lags, -decay + 2j * np.pi * frequency))
  columns = np.concatenate([wave.real, -wave.imag[:, ~is_real]], axis=1)
  weights, *_ = np.linalg.lstsq(columns, h, rcond=None)
  real = weights[: len(upper)]
  imag = np.zeros(len(upper))
  imag[~is_real] = weights[len(upper) :]
  norm = max(float(np.linalg.norm(h)), 1e-300)
  error = float(np.linalg.norm(columns @ weights - h)) / norm
  return decay, frequency, real, imag, error, float(columns.shape[1])


def _hankel_eigenvalues(h: np.ndarray, count: int) -> np.ndarray:
  rows = min((len(h) + 1) // 2, _MAX_ROWS)
  columns = min(len(h) - rows + 1, 2 * _MAX_ROWS)
  hankel = h[np.arange(rows)[:, None] + np.arange(columns)]
  left, sizes, _ = np.linalg.svd(hankel, full_matrices=False)
  rank = max(1, int(np.sum(sizes > 1e-14 * max(sizes[0], 1e-300))))
  basis = left[:, : min(count, rank)] * np.sqrt(sizes[: min(count, rank)])
  shift, *_ = np.linalg.lstsq(basis[:-1], basis[1:], rcond=None)
  return np.linalg.eigvals(shift)
