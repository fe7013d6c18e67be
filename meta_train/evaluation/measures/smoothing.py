"""Smooth and monotone learning curves, and envelopes of them.

With L(s) the training loss of step s, smoothing is the mean over the last
twentieth of the time so far,

  S[L](t) = 1 / (f t) * integral of L from (1 - f) t to t,   f = 1/20,

so that the window grows with t: a run that follows another's curve at c times
the speed follows its smooth curve at c times the speed too, and measures of
time come out as c exactly. The *last loss* of a run of N steps is S[L](N), the
mean of its last N / 20 steps.

The lower envelope of a grid of learning rates is

  E(t) = min over s <= t and rates r of mean over seeds of S[L_r,seed](s).

The least of many noisy means is too low, the more so the shorter they are; so
for E the mean is over at least as many steps as a last loss is (and over all
steps, as long as there are fewer). That puts E behind by up to N / 40 steps
before N, in favour of a slow candidate. It is the best of the rates at every
moment, as in L. Metz et al., "VeLO: Training Versatile Learned Optimizers by
Scaling Up", 2022.

A curve may be given as means over blocks of equally many steps. What is not
finite is infinite, from there on: a run that diverged stays so.

Names: `smooth`, `last_loss`, `monotone`, `envelope`, `FRACTION`.
"""

import numpy as np
from jaxtyping import Float

#: Share of the time so far that is averaged over.
FRACTION = 1 / 20


def smooth(
  curve: Float[np.ndarray, "*runs points"],
  *,
  fraction: float = FRACTION,
  least: float = 0.0,
) -> Float[np.ndarray, "*runs points"]:
  """Averages over the last part of the time so far.

  Args:
    curve: losses of consecutive steps, or means over equal blocks of them.
    fraction: f above, in (0, 1].
    least: points to average over where f t is less, if there are as many.

  Returns:
    S at the end of each block; infinite from the first value on that is not
    finite.
  """
  curve = np.asarray(curve, np.float64)
  broken = np.maximum.accumulate(~np.isfinite(curve), axis=-1)
  values = np.where(broken, 0.0, curve)
  until = np.arange(1, curve.shape[-1] + 1)
  since = np.maximum(until - np.maximum(fraction * until, least), 0.0)
  # The first block of a window counts in part, and those behind it whole.
  first = np.minimum(since.astype(int), curve.shape[-1] - 1)
  part = (1.0 - (since - first)) * values[..., first]
  total = part + _window_sums(values, first + 1, until)
  return np.where(broken, np.inf, total / (until - since))


def _window_sums(values, start, end) -> Float[np.ndarray, "*runs windows"]:
  """Returns sums over [start, end) of the last axis, exact but for rounding.

  Differences of running sums would lose all behind one huge value. These are
  sums of sums over 1, 2, 4, ... values.
  """
  size = values.shape[-1]
  sums = np.concatenate([values, np.zeros_like(values)], axis=-1)
  total = np.zeros(values.shape[:-1] + start.shape)
  left, at = end - start, start
  step = 1
  while (left > 0).any():
    taken = (left & step) > 0
    total += np.where(taken, sums[..., np.minimum(at, size)], 0.0)
    at, left = at + step * taken, left - step * taken
    sums = sums + np.concatenate(
      [sums[..., step:], np.zeros_like(sums[..., :step])], axis=-1
    )
    step *= 2
  return total


def last_loss(
  curve: Float[np.ndarray, "*runs points"],
) -> Float[np.ndarray, "*runs"]:
  """Returns the mean loss of the last twentieth of each run."""
  return smooth(curve)[..., -1]


def monotone(
  curve: Float[np.ndarray, "*runs points"],
) -> Float[np.ndarray, "*runs points"]:
  """Returns the lowest value so far; NaN counts as infinite."""
  curve = np.asarray(curve, np.float64)
  return np.minimum.accumulate(
    np.where(np.isnan(curve), np.inf, curve), axis=-1
  )


def envelope(
  curves: Float[np.ndarray, "rates seeds points"], *, least: float = 0.0
) -> Float[np.ndarray, "points"]:
  """Returns the lower envelope E of a grid of learning rates.

  Args:
    curves: training losses; a rate counts as infinite where one of its seeds
      has diverged.
    least: points to average over at least; those of a last loss.
  """
  means = smooth(curves, least=least).mean(axis=1)
  return monotone(means.min(axis=0))
