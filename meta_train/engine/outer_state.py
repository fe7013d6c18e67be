"""What an outer step goes on from, and what it tells.

Main names: `OuterState`, `StepMetrics`.
"""

from typing import Any, NamedTuple

from jaxtyping import Array, Float, Int


class OuterState(NamedTuple):
  """Everything a run needs to go on, bit for bit.

  Attributes:
    outer_step: finished outer steps.
    theta: flat meta-parameters.
    average: their running average in this phase, the result of meta-training.
    optimizer: state of the outer optimizer.
    skipped: outer steps skipped in a row, up to now.
    tasks: the estimators' states, one entry per family, with this process's
      tasks along the first axis of every leaf.
  """

  outer_step: Int[Array, ""]
  theta: Float[Array, "theta"]
  average: Float[Array, "theta"]
  optimizer: Any
  skipped: Int[Array, ""]
  tasks: tuple[Any, ...]


class StepMetrics(NamedTuple):
  """What one outer step tells; means over tasks.

  Attributes:
    meta_loss: over the visited families.
    diverged_fraction: of the perturbed copies, over the visited families.
    grad_norm: of the estimated meta-gradient, before it is clipped as a whole.
    grad_variance: of that estimate, from the spread of its tasks; see
      `meta_train.engine.shares`.
    grad_snr: its signal-to-noise ratio; 0 on average for pure noise.
    grad_limited: share of the tasks' estimates whose norm was limited, or that
      were dropped since they were not finite.
    skipped: whether the step changed nothing, since the estimate was not
      finite.
    families: the numbers of the visited families.
    family_losses: the meta-loss by visited family.
    family_diverged: the fraction diverged by visited family.
  """

  meta_loss: float
  diverged_fraction: float
  grad_norm: float
  grad_variance: float
  grad_snr: float
  grad_limited: float
  skipped: bool
  families: tuple[int, ...]
  family_losses: tuple[float, ...]
  family_diverged: tuple[float, ...]
