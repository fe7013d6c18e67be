"""What the memory has learned, as columns of a row of metrics.jsonl.

Main names: `columns`.
"""

from typing import Any

import numpy as np

import flt_lopt
from flt_lopt import memory


def columns(lopt: flt_lopt.LearnedOptimizer, theta: Any) -> dict[str, float]:
  """Returns time constants and frequencies of the per-parameter memory.

  Args:
    lopt: the learned optimizer.
    theta: its meta-parameters.

  Returns:
    `time_constant/k` of each mode k, in optimization steps, and `frequency/k`
    in cycles per step.
  """
  rates = np.asarray(memory.rates(lopt.spectrum, theta["memory"]))
  frequencies = np.asarray(memory.frequencies(lopt.spectrum, theta["memory"]))
  times = {f"time_constant/{k}": 1.0 / float(x) for k, x in enumerate(rates)}
  cycles = {f"frequency/{k}": float(x) for k, x in enumerate(frequencies)}
  return times | cycles
