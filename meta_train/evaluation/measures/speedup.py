"""How much faster one optimizer is than another, in steps.

Two measures, both 1 for equals, both independent of the unit of the loss
(zero and negative losses are as good as any):

*VeLO's speed-up.* With E the lower envelope of learning-rate-tuned Adam (see
`smoothing`), l the mean over seeds of the candidate's last losses and N its
number of steps,

  speed-up = min {t : E(t) <= l} / N,

the steps that Adam needs for what the candidate did in N. E is of means over
seeds, so l has to be one too: where seeds end at different levels, the last
loss of a good one is below all of E, and that of a bad one is reached by E at
once. A task therefore has one speed-up. Adam is run for longer than N; a loss
that it does not reach even so makes the speed-up *censored*: all that is known
is that it is larger than E's length over N. (A loss that is below E's lowest by
less than 1e-4 of it counts as E's lowest: rows keep five digits of E, and
rounding is not to decide whether two that end at the same floor are equal.)
Where a seed of the candidate diverged, l is infinite and the speed-up 0.
Source: L. Metz et al., "VeLO: Training Versatile Learned Optimizers by Scaling
Up", 2022.

*Speed ratio*, after A. Moudgil et al., "Celo: Training Versatile Learned
Optimizers on a Compute Diet", 2025, who compare with one tuned Adam: the
steps that Adam takes to its last loss over the steps that the candidate takes
to the same loss. Where the candidate never gets there, the roles are
exchanged, so that nothing is censored: with l the worse of both last losses,

  speed ratio = min {t : M_adam(t) <= l} / min {t : M_candidate(t) <= l},

M the smooth and monotone curves. Zero where the candidate diverged, infinite
where Adam did, and 1 where both did. (Who calls may count as diverged what
ended above the loss that it began with.)

Names: `SpeedUp`, `speed_up`, `speed_ratio`, `steps_to_reach`, `REACHED`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from meta_train.evaluation.measures import smoothing

#: Share of E's lowest value by which a loss may be below it and count as equal:
#: of rounding to five digits 5e-5, and of ties 1e-5.
REACHED = 1e-4


class SpeedUp(NamedTuple):
  """Speed-ups on a task: one, or one for each resampling of the seeds.

  Attributes:
    value: the speed-up, where it is not censored; a bound below it, where it
      is.
    censored: whether the reference never reached the loss.
  """

  value: Float[np.ndarray, "*draws"]
  censored: Bool[np.ndarray, "*draws"]


def steps_to_reach(
  curve: Float[np.ndarray, "points"], loss: float, *, every: int = 1
) -> float:
  """Returns the first step by which a monotone curve is down at a loss.

  Args:
    curve: never rising; point i is the value after (i + 1) `every` steps.
    loss: to be reached; infinity is reached in 0 steps, NaN never.
    every: steps to a point.

  Returns:
    Steps, interpolated between points; `inf` if it is never reached.
  """
  if loss == np.inf:
    return 0.0
  reached = np.asarray(curve) <= loss
  if not reached.any():
    return np.inf
  i = int(reached.argmax())
  if i == 0 or not np.isfinite(curve[i - 1]):
    return float(every * (i + 1))
  above = curve[i - 1] - loss
  return float(every * (i + above / (curve[i - 1] - curve[i])))


def speed_up(
  last_losses: Float[np.ndarray, "*draws runs"],
  envelope: Float[np.ndarray, "points"],
  *,
  num_steps: int,
  every: int = 1,
) -> SpeedUp:
  """Returns VeLO's speed-up over tuned Adam on one task.

  Args:
    last_losses: last losses of the candidate's runs, the mean of which counts;
      what is not finite has diverged.
    envelope: E of `smoothing.envelope`, with `every` steps to a point.
    num_steps: steps of a run of the candidate.
    every: steps to a point of the envelope.
  """
  losses = np.where(np.isfinite(last_losses), last_losses, np.inf).mean(axis=-1)
  levels, where = np.unique(losses, return_inverse=True)
  lowest = np.min(envelope, initial=np.inf)
  slack = REACHED * abs(lowest) if np.isfinite(lowest) else 0.0
  with np.errstate(invalid="ignore"):  # Where both are infinite.
    near = (levels < lowest) & (lowest - levels <= slack)
  steps = np.asarray(
    [
      steps_to_reach(envelope, level, every=every)
      for level in np.where(near, lowest, levels)
    ]
  )[where].reshape(losses.shape)
  censored = np.isinf(steps)
  bound = len(envelope) * every
  return SpeedUp(np.where(censored, bound, steps) / num_steps, censored)


def speed_ratio(
  candidate: Float[np.ndarray, "runs points"],
  reference: Float[np.ndarray, "runs points"],
) -> Float[np.ndarray, "runs"]:
  """Returns the speed ratio of each pair of runs.

  Args:
    candidate: training losses, not smoothed.
    reference: those of the tuned reference at the same steps, run by run.
  """
  ratios = []
  for ours, theirs in zip(candidate, reference):
    ours, theirs = smoothing.smooth(ours), smoothing.smooth(theirs)
    worse = max(ours[-1], theirs[-1])
    if worse == np.inf:  # Someone diverged.
      broken = np.isinf(ours[-1]), np.isinf(theirs[-1])
      ratios.append({(True, True): 1.0, (True, False): 0.0}.get(broken, np.inf))
      continue
    steps = steps_to_reach(smoothing.monotone(ours), worse)
    ratios.append(steps_to_reach(smoothing.monotone(theirs), worse) / steps)
  return np.asarray(ratios)
