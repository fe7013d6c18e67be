"""Gradient estimators by name; one file each.

| name | calls per episode | smoothed | bias | perturbed copies |
|---|---|---|---|---|
| `pes` | one per unroll | per unroll | none | pairs |
| `nres` | one per unroll | per noise period | none | pairs |
| `es_single` | one per unroll | per episode | none | pairs |
| `truncated_es` | one per unroll | per unroll | truncation | pairs |
| `full_es` | one | per episode | none | pairs |
| `truncated_grad` | one per unroll | not | truncation | none |
| `full_grad` | one | not | none | none |

"None" is with theta frozen over an episode; online estimators follow a moving
theta with the lag of an episode.
"""

import inspect

from meta_train.errors import UserError, closest
from meta_train.estimators.base import Estimate, Estimator
from meta_train.estimators.es_single import es_single
from meta_train.estimators.full_es import full_es
from meta_train.estimators.full_grad import full_grad
from meta_train.estimators.nres import nres
from meta_train.estimators.pes import pes
from meta_train.estimators.truncated_es import truncated_es
from meta_train.estimators.truncated_grad import truncated_grad

ESTIMATORS = {
  "pes": pes,
  "nres": nres,
  "es_single": es_single,
  "truncated_es": truncated_es,
  "full_es": full_es,
  "truncated_grad": truncated_grad,
  "full_grad": full_grad,
}

__all__ = [
  "ESTIMATORS",
  "Estimate",
  "Estimator",
  "es_single",
  "full_es",
  "full_grad",
  "make_estimator",
  "nres",
  "pes",
  "truncated_es",
  "truncated_grad",
]


def make_estimator(
  name: str,
  unroller,
  num_theta: int,
  sigma: float,
  *,
  num_pairs: int = 1,
  noise_period: int = 0,
) -> Estimator:
  """Returns the estimator `name`.

  Args:
    name: key of `ESTIMATORS`.
    unroller: the unroller of a task family.
    num_theta: number of meta-parameters.
    sigma: standard deviation of the perturbations.
    num_pairs: antithetic pairs per task.
    noise_period: inner steps for which `nres` keeps a perturbation; 0: the
      whole episode.

  Raises:
    UserError: the name is unknown, or an option is set that the estimator
      doesn't have.
  """
  if name not in ESTIMATORS:
    raise UserError(
      f"--estimator={name} is unknown{closest(name, ESTIMATORS)} (there are: "
      f"{', '.join(ESTIMATORS)})"
    )
  options = {"num_pairs": num_pairs, "noise_period": noise_period}
  defaults = {"num_pairs": 1, "noise_period": 0}
  known = inspect.signature(ESTIMATORS[name]).parameters
  for option in [o for o in options if o not in known]:
    value = options.pop(option)
    if value != defaults[option]:
      users = [n for n, f in ESTIMATORS.items() if _has(f, option)]
      raise UserError(
        f"--{option}={value} does nothing for --estimator={name}; leave it at "
        f"{defaults[option]}, or use it with {', '.join(users)}"
      )
  return ESTIMATORS[name](unroller, num_theta, sigma, **options)


def _has(estimator, option: str) -> bool:
  return option in inspect.signature(estimator).parameters
