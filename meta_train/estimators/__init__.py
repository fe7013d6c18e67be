"""Gradient estimators by name; one file each."""

from meta_train.errors import UserError, closest
from meta_train.estimators.base import Estimate, Estimator
from meta_train.estimators.pes import pes

ESTIMATORS = {"pes": pes}

__all__ = ["ESTIMATORS", "Estimate", "Estimator", "make_estimator", "pes"]


def make_estimator(name: str, unroller, num_theta: int, sigma: float):
  """Returns the estimator `name`.

  Args:
    name: key of `ESTIMATORS`.
    unroller: the unroller of a task family.
    num_theta: number of meta-parameters.
    sigma: standard deviation of the perturbations.

  Raises:
    UserError: the name is unknown.
  """
  if name not in ESTIMATORS:
    raise UserError(
      f"--estimator={name} is unknown{closest(name, ESTIMATORS)} (there are: "
      f"{', '.join(ESTIMATORS)})"
    )
  return ESTIMATORS[name](unroller, num_theta, sigma)
