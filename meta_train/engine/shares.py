"""From the estimates of single tasks to one gradient, and what it is worth.

Each device reduces its own tasks to a `Share`, family by family; the host
joins the shares. With g_fi the estimate of task i of family f, of F families
with n tasks each,

    gradient = mean over f and i of g_fi,
    variance = sum over f of s_f**2 / (n F**2),

where s_f**2, the sum over meta-parameters of the sample variance among the
tasks of family f, counts families apart: that they differ is no noise. The
variance is that of the gradient, the square of its standard error, summed
over meta-parameters; and

    snr = |gradient|**2 / variance - 1

estimates the square norm of the expected gradient in units of the variance:
0 on average for pure noise. Average both before dividing, when averaging over
outer steps.

Families differ in the size of their estimates by orders of magnitude, since
their losses do, and the largest would be all that theta learns from. If asked
for, the estimates of a family are first divided by their root mean square
norm, sqrt(mean over i of |g_fi|**2), so that the families count alike. (This
is no longer the gradient of any one meta-loss; for pure noise it weighs
families by the inverse of their standard errors.)

Chaotic inner runs give estimates that are too large by many orders of
magnitude, and one of them would be all that its outer step learns. So the norm
of a single estimate can be limited, g_fi <- g_fi min(1, c / |g_fi|), before
all of the above.

Main names: `Share`, `Joined`, `share`, `join`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from meta_train.estimators import Estimate


class Share(NamedTuple):
  """Means over the tasks of one device; one row per device when gathered.

  Attributes:
    gradient: of the estimates.
    square: of their square norms.
    loss: of the losses.
    diverged: of the shares of copies that have diverged.
    limited: 1 for estimates whose norm was limited, or that were dropped, and
      0 for the others.
  """

  gradient: Float[Array, "devices families theta"]
  square: Float[Array, "devices families"]
  loss: Float[Array, "devices families"]
  diverged: Float[Array, "devices families"]
  limited: Float[Array, "devices families"]


class Joined(NamedTuple):
  """What all tasks of an outer step say together, on the host.

  Attributes:
    gradient: the estimate of the meta-gradient.
    variance: of that estimate, summed over meta-parameters; NaN where each
      family has one task.
    losses: meta-loss by family.
    diverged: share of the copies that have diverged, by family.
    limited: share of the estimates whose norm was limited, or that were
      dropped.
  """

  gradient: Float[np.ndarray, "theta"]
  variance: float
  losses: tuple[float, ...]
  diverged: tuple[float, ...]
  limited: float

  @property
  def snr(self) -> float:
    """Signal-to-noise ratio of the gradient, in powers."""
    square = float(np.sum(np.square(self.gradient, dtype=np.float64)))
    if square == 0.0:
      return 0.0 if self.variance >= 0.0 else np.nan
    return square / self.variance - 1.0 if self.variance else np.inf


def share(estimates: Sequence[Estimate], limit: float = 0.0) -> Share:
  """Reduces the tasks of one device.

  Args:
    estimates: one per family, with the tasks along the first axis.
    limit: largest norm c of an estimate; 0: there is none.

  Returns:
    One row of the shares.
  """
  rows = [_reduce(estimate, limit) for estimate in estimates]
  return jax.tree.map(lambda *xs: jnp.stack(xs)[None], *rows)


def _reduce(estimate: Estimate, limit: float) -> Share:
  gradient = estimate.gradient
  limited = jnp.broadcast_to(estimate.dropped, len(gradient))
  if limit:
    # Squares of what is to be limited may be infinite.
    largest = jnp.max(jnp.abs(gradient), axis=1, keepdims=True)
    unit = gradient / jnp.where(largest > 0, largest, 1.0)
    norm = largest * jnp.linalg.norm(unit, axis=1, keepdims=True)
    over = (norm > limit) & jnp.isfinite(largest)
    square = jnp.where(over, jnp.sum(unit * unit, axis=1, keepdims=True), 1.0)
    gradient = jnp.where(over, limit * unit / jnp.sqrt(square), gradient)
    limited = jnp.maximum(limited, over[:, 0])
  return Share(
    gradient=jnp.mean(gradient, axis=0),
    square=jnp.mean(jnp.sum(jnp.square(gradient), axis=1)),
    loss=jnp.mean(estimate.loss),
    diverged=jnp.mean(estimate.diverged),
    limited=jnp.mean(limited),
  )


def join(shares: Share, *, num_tasks: int, balanced: bool = False) -> Joined:
  """Joins the shares of all devices, which have equally many tasks.

  Args:
    shares: rows of all devices, on the host.
    num_tasks: tasks per family, on all devices together.
    balanced: whether families count alike, see the module's docstring.
  """
  mean = Share(*(np.mean(x, axis=0, dtype=x.dtype) for x in shares))
  if balanced:
    mean = _balance(mean)
  num_families = len(mean.loss)
  centre = np.sum(np.square(mean.gradient, dtype=np.float64), axis=1)
  # Rounding may make a spread of nothing negative.
  spread = np.maximum(np.asarray(mean.square, np.float64) - centre, 0.0)
  variance = np.nan
  if num_tasks > 1:
    variance = float(np.sum(spread)) / (num_tasks - 1) / num_families**2
  return Joined(
    gradient=np.mean(mean.gradient, axis=0, dtype=mean.gradient.dtype),
    variance=variance,
    losses=tuple(map(float, mean.loss)),
    diverged=tuple(map(float, mean.diverged)),
    limited=float(np.mean(mean.limited)),
  )


def _balance(mean: Share) -> Share:
  """Divides the estimates of each family by their root mean square norm."""
  square = np.asarray(mean.square)
  # Zero stays zero; what is not finite stays so too, and is told.
  usable = (square > 0) & np.isfinite(square)
  inverse = 1.0 / np.sqrt(np.where(usable, square, 1.0))
  inverse = inverse.astype(square.dtype)
  return mean._replace(
    gradient=mean.gradient * inverse[:, None], square=mean.square * inverse**2
  )
