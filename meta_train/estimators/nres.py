"""Noise-reuse evolution strategies: one perturbation for several unrolls.

As in PES an antithetic pair goes on from one unroll to the next, and the loss
of an unroll is credited to all perturbations that led to it. But a fresh
eps ~ N(0, sigma**2 I) is drawn only at the start of each noise period, of
`noise_period` inner steps since the episode began, and kept until its end.
With xi the sum of the eps of all periods begun in this episode and L+, L- the
losses of the unroll,

    g = xi (L+ - L-) / (2 sigma**2)

is an unbiased estimate of the unroll's part of the gradient of the episode's
loss, smoothed by sigma jointly within each noise period and independently
between them. A period of one unroll is PES, exactly; one as long as the
episode is ES-single. Where the gradients of unrolls are uncorrelated, the
variance grows with the number of periods, not of unrolls.

Li et al. call the family of all periods generalized PES, and show that the
longest period has the least variance under their assumptions; NRES is their
name for that one.

Reference: Li, Harrison, Sohl-Dickstein, Smith, Metz, "Variance-Reduced
Gradient Estimation via Noise-Reuse in Online Evolution Strategies" (2023).

Main names: `nres`.
"""

import jax.numpy as jnp

from meta_train.engine.unroll import Unroller
from meta_train.estimators import pairs
from meta_train.estimators.base import Estimator
from meta_train.estimators.failing import NO_BUFFER, FailingStates


def nres(
  unroller: Unroller,
  num_theta: int,
  sigma: pairs.Sigma,
  *,
  num_pairs: int = 1,
  shaping: str = "none",
  failing: FailingStates = NO_BUFFER,
  noise_period: int = 0,
) -> Estimator:
  """Makes the estimator.

  Args:
    unroller: trains one copy for one unroll.
    num_theta: number of meta-parameters.
    sigma: standard deviation of the perturbations.
    num_pairs: antithetic pairs per task.
    shaping: name in `SHAPINGS`: what is credited.
    failing: buffer of states in which episodes may begin.
    noise_period: inner steps for which a perturbation is kept, a multiple of
      the truncation; 0: the whole episode.

  Raises:
    ValueError: the truncation does not divide the period.
  """
  if noise_period < 0 or noise_period % unroller.truncation:
    raise ValueError(
      f"noise_period={noise_period} must be a multiple of the truncation, "
      f"{unroller.truncation}; use {unroller.truncation}, or 0 for the whole "
      "episode"
    )

  def perturb(memory, drawn, step):
    epsilon, xi = memory
    begins = step % noise_period == 0 if noise_period else step == 0
    epsilon = jnp.where(begins, drawn, epsilon)
    xi = jnp.where(begins, xi + drawn, xi)
    return epsilon, xi, (epsilon, xi)

  return pairs.online(
    unroller,
    num_theta,
    sigma,
    num_pairs=num_pairs,
    shaping=shaping,
    failing=failing,
    num_kept=2,
    perturb=perturb,
  )
