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

What an estimate is worth, untrained, on digits (64-32-10), from one episode
of 200 steps (`tests/benchmarks/bench_estimators.py --horizons=200
--episodes=16 --estimators=pes,es_single,full_es,truncated_grad,full_grad`):

| name | variance | CPU s | both multiplied | cosine with `full_grad` |
|---|---|---|---|---|
| `pes` | 2300 | 0.033 | 76 | lost in noise |
| `es_single` | 2300 | 0.024 | 56 | lost in noise |
| `full_es` | 3400 | 0.023 | 79 | lost in noise |
| `truncated_grad` | 0.0036 | 0.13 | 0.00046 | 0.994 |
| `full_grad` | 0.026 | 0.14 | 0.0037 | 1 |

So where inner training is tame, as it is near AdamW, backpropagation is worth
its price many times over. Evolution strategies need no second derivatives,
little memory, and no tame dynamics: smoothing keeps their variance bounded
where the gradient explodes. A mix of both that weighs them by inverse
variance (Metz et al. 2019) was left out: with a ratio of variances like this
one its weights are those of backpropagation alone to four digits.
"""

import inspect
from collections.abc import Callable, Mapping

from meta_train.errors import UserError, check_choice
from meta_train.estimators.base import Estimate, Estimator
from meta_train.estimators.es_single import es_single
from meta_train.estimators.failing import FailingStates
from meta_train.estimators.full_es import full_es
from meta_train.estimators.full_grad import full_grad
from meta_train.estimators.nres import nres
from meta_train.estimators.pes import pes
from meta_train.estimators.shaping import SHAPINGS, Sigma
from meta_train.estimators.truncated_es import truncated_es
from meta_train.estimators.truncated_grad import truncated_grad

ESTIMATORS: Mapping[str, Callable[..., Estimator]] = {
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
  "SHAPINGS",
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
  sigma: Sigma,
  *,
  num_pairs: int = 1,
  noise_period: int = 0,
  shaping: str = "none",
  failing_states: int = 0,
  failing_share: float = 0.0,
) -> Estimator:
  """Returns the estimator `name`.

  Args:
    name: key of `ESTIMATORS`.
    unroller: the unroller of a task family.
    num_theta: number of meta-parameters.
    sigma: standard deviation of the perturbations, one or for each
      meta-parameter.
    num_pairs: antithetic pairs per task.
    noise_period: inner steps for which `nres` keeps a perturbation; 0: the
      whole episode.
    shaping: name in `SHAPINGS`: what is credited.
    failing_states: states from which training went wrong that each task
      keeps, to begin episodes in.
    failing_share: share of episodes that begin in one of them.

  Raises:
    UserError: the name is unknown, or an option is set that the estimator
      doesn't have.
  """
  check_choice("estimator", name, ESTIMATORS)
  check_choice("shaping", shaping, SHAPINGS)
  failing = FailingStates(failing_states, failing_share)
  # By parameter: its value, and the flag with its value and its default.
  options = {
    "num_pairs": (num_pairs, "num_pairs", num_pairs, 1),
    "noise_period": (noise_period, "noise_period", noise_period, 0),
    "shaping": (shaping, "shaping", shaping, "none"),
    "failing": (failing, "failing_states", failing_states, 0),
  }
  known = _options(ESTIMATORS[name])
  for option, (_, flag, given, default) in options.items():
    if option not in known and given != default:
      users = [n for n, f in ESTIMATORS.items() if option in _options(f)]
      raise UserError(
        f"--{flag}={given} does nothing for --estimator={name}; leave it at "
        f"{default}, or use it with {', '.join(users)}"
      )
  taken = {o: value for o, (value, *_) in options.items() if o in known}
  return ESTIMATORS[name](unroller, num_theta, sigma, **taken)


def _options(estimator) -> Mapping[str, inspect.Parameter]:
  return inspect.signature(estimator).parameters
