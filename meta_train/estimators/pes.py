"""Persistent evolution strategies: unbiased estimates from short unrolls.

An antithetic pair trains with theta + eps and theta - eps, with a fresh
eps ~ N(0, sigma**2 I) for each unroll, and its runs go on from one unroll to
the next. With xi the sum of all eps since the episode began and L+, L- the
losses of the unroll,

    g = xi (L+ - L-) / (2 sigma**2)

is an unbiased estimate of the unroll's part of the gradient of the episode's
loss, smoothed by sigma independently in each unroll: xi credits the loss to
all the perturbations that led to it, where plain truncated ES credits it to
the last one alone. Its variance grows with the number of unrolls.

Reference: Vicol, Metz, Sohl-Dickstein, "Unbiased Gradient Estimation in
Unrolled Computation Graphs with Persistent Evolution Strategies" (2021).

Main names: `pes`.
"""

from meta_train.engine.unroll import Unroller
from meta_train.estimators import pairs
from meta_train.estimators.base import Estimator
from meta_train.estimators.failing import NO_BUFFER, FailingStates


def pes(
  unroller: Unroller,
  num_theta: int,
  sigma: pairs.Sigma,
  *,
  num_pairs: int = 1,
  shaping: str = "none",
  failing: FailingStates = NO_BUFFER,
) -> Estimator:
  """Makes the estimator.

  Args:
    unroller: trains one copy for one unroll.
    num_theta: number of meta-parameters.
    sigma: standard deviation of the perturbations.
    num_pairs: antithetic pairs per task.
    shaping: name in `SHAPINGS`: what is credited.
    failing: buffer of states in which episodes may begin.
  """

  def perturb(memory, drawn, step):
    del step
    (xi,) = memory
    xi = xi + drawn
    return drawn, xi, (xi,)

  return pairs.online(
    unroller,
    num_theta,
    sigma,
    num_pairs=num_pairs,
    shaping=shaping,
    failing=failing,
    num_kept=1,
    perturb=perturb,
  )
