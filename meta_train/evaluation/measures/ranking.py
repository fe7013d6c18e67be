"""Ranks of several optimizers over several tasks.

On each task the optimizer with the lowest loss has rank 1; equal ones share
the mean of their ranks, and losses are equal up to 1e-5 of the larger (see
`ties`). Losses that are not finite are equally worst. Only the order of losses
counts, so zero and negative ones are as good as any.

Names: `ranks`, `average_ranks`.
"""

import numpy as np
from jaxtyping import Float

from meta_train.evaluation.measures.ties import tied


def ranks(
  losses: Float[np.ndarray, "tasks optimizers"],
) -> Float[np.ndarray, "tasks optimizers"]:
  """Returns the rank of each optimizer on each task.

  Args:
    losses: lower is better.
  """
  losses = np.asarray(losses, np.float64)
  losses = np.where(np.isfinite(losses), losses, np.inf)
  others, ours = losses[:, None, :], losses[:, :, None]
  equal = tied(others, ours)
  below = (others < ours) & ~equal
  return below.sum(axis=-1) + (equal.sum(axis=-1) + 1) / 2


def average_ranks(
  losses: Float[np.ndarray, "tasks optimizers"],
) -> Float[np.ndarray, "optimizers"]:
  """Returns the mean rank of each optimizer over the tasks.

  Args:
    losses: lower is better.
  """
  return ranks(losses).mean(axis=0)
