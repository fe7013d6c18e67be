"""Performance profiles: on how many tasks is one within a factor of the best?

With t the time that an optimizer takes on a task (here steps to a target
loss, infinite if it never gets there), and b the least time that any of them
takes on it, the profile of an optimizer is

  rho(tau) = share of tasks with t <= tau b.

rho(1) is the share of tasks on which it is the fastest, ties included; the
limit is the share of tasks that it solves. A task that nobody solves counts
for nobody. Source: E. Dolan and J. Moré, "Benchmarking optimization software
with performance profiles", 2002; G. Dahl et al., "Benchmarking Neural Network
Training Algorithms" (AlgoPerf), 2023, use it for time to target.

Names: `profile`, `time_ratios`.
"""

import numpy as np
from jaxtyping import Float


def time_ratios(
  times: Float[np.ndarray, "tasks optimizers"],
) -> Float[np.ndarray, "tasks optimizers"]:
  """Returns each time over the best of its task.

  Args:
    times: not negative; `inf` where the target was never reached, and NaN
      counts as that.
  """
  times = np.where(np.isnan(times), np.inf, np.asarray(times, np.float64))
  best = times.min(axis=1, keepdims=True)
  with np.errstate(divide="ignore", invalid="ignore"):
    ratios = times / best
  # Where the best takes no time, equals are equal and others beyond compare.
  ratios = np.where(times == best, 1.0, ratios)
  return np.where(np.isinf(times), np.inf, ratios)


def profile(
  times: Float[np.ndarray, "tasks optimizers"],
  factors: Float[np.ndarray, "factors"],
) -> Float[np.ndarray, "factors optimizers"]:
  """Returns rho at each factor for each optimizer.

  Args:
    times: as for `time_ratios`.
    factors: tau, at least 1.
  """
  ratios = time_ratios(times)
  return (ratios[None] <= np.asarray(factors)[:, None, None]).mean(axis=1)
