"""When two losses count as equal.

Sums in another order, or on another machine, change a loss in its last
digits; so losses that differ by at most 1e-5 of the larger magnitude are
ties, and nobody wins by rounding. Infinite ones are equal.

Names: `tied`, `SHARE`.
"""

import numpy as np
from jaxtyping import Bool, Float

#: Of the larger magnitude, up to which losses are equal.
SHARE = 1e-5


def tied(
  ours: Float[np.ndarray, "*shape"], theirs: Float[np.ndarray, "*shape"]
) -> Bool[np.ndarray, "*shape"]:
  """Returns whether losses are equal but for rounding.

  Args:
    ours: finite or infinite, not NaN.
    theirs: likewise.
  """
  ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
  with np.errstate(invalid="ignore"):
    slack = SHARE * np.maximum(np.abs(ours), np.abs(theirs))
    near = np.isfinite(slack) & (np.abs(ours - theirs) <= slack)
  return near | (ours == theirs)
