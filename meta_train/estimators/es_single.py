"""ES-single: one perturbation for the whole episode, and no truncation bias.

An antithetic pair draws eps ~ N(0, sigma**2 I) when its episode begins, keeps
it to the horizon, and goes on from one unroll to the next. With L+, L- the
losses of the unroll,

    g = eps (L+ - L-) / (2 sigma**2),

whose mean over the unrolls of an episode is the estimate of full ES, sample
by sample: unbiased for the gradient of the episode's loss, smoothed by sigma
jointly over the episode. There is one eps to credit, so nothing sums up, and
the variance does not grow with the number of unrolls. All of it is for theta
frozen: as theta moves between unrolls, any online estimator estimates for the
mixture of the thetas that its episode has seen.

References: Vicol, Kolter, Swersky, "Low-Variance Gradient Estimation in
Unrolled Computation Graphs with ES-Single" (2023). The same estimator is NRES
in Li, Harrison, Sohl-Dickstein, Smith, Metz (2023), see `nres`.

Main names: `es_single`.
"""

from meta_train.engine.unroll import Unroller
from meta_train.estimators import pairs
from meta_train.estimators.base import Estimator
from meta_train.estimators.failing import NO_BUFFER, FailingStates
from meta_train.estimators.nres import nres


def es_single(
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
  return nres(
    unroller,
    num_theta,
    sigma,
    num_pairs=num_pairs,
    shaping=shaping,
    failing=failing,
    noise_period=0,
  )
