"""Truncated evolution strategies: cheap, with little variance, and biased.

A fresh eps ~ N(0, sigma**2 I) for each unroll, and an antithetic pair that
goes on from one unroll to the next. With L+, L- the losses of the unroll,

    g = eps (L+ - L-) / (2 sigma**2)

estimates how the loss of the unroll depends on theta within that unroll. What
theta did in the unrolls before is part of the pair's state and is credited to
no one: the expectation of g is, with L_n the loss of unroll n and s the
state that the pair's earlier unrolls led to,

    E[g] = d/dtheta E[L_n(theta + eps, s)]   with s held constant,

smoothed independently in each unroll. The bias doesn't vanish with sigma; it
favours what helps soon, and it is gone only where an unroll is the whole
episode.

References: Wu, Ren, Liao, Grosse, "Understanding Short-Horizon Bias in
Stochastic Meta-Optimization" (2018), for the bias; Metz, Maheswaranathan,
Nixon, Freeman, Sohl-Dickstein, "Understanding and Correcting Pathologies in
the Training of Learned Optimizers" (2019).

Main names: `truncated_es`.
"""

from meta_train.engine.unroll import Unroller
from meta_train.estimators import pairs
from meta_train.estimators.base import Estimator
from meta_train.estimators.failing import NO_BUFFER, FailingStates


def truncated_es(
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
    return drawn, drawn, memory

  return pairs.online(
    unroller,
    num_theta,
    sigma,
    num_pairs=num_pairs,
    shaping=shaping,
    failing=failing,
    num_kept=0,
    perturb=perturb,
  )
