"""How much lower one optimizer's loss is than another's.

The *final-loss ratio* of A. Moudgil et al., "Celo: Training Versatile Learned
Optimizers on a Compute Diet", 2025, is the loss of tuned Adam over that of the
candidate, so that above 1 is better:

  ratio = L_adam / L_candidate.

It needs positive losses. Two equal losses have the ratio 1, also where both
are zero, negative or infinite; a candidate that diverged has 0, and infinity
where the reference did, whatever the sign of the other loss; one at zero loss
has infinity; and where finite losses differ and one is negative there is no
ratio, which is NaN: such tasks are compared by steps, wins and ranks alone.

Names: `loss_ratio`.
"""

import numpy as np
from jaxtyping import Float


def loss_ratio(
  candidate: Float[np.ndarray, "runs"], reference: Float[np.ndarray, "runs"]
) -> Float[np.ndarray, "runs"]:
  """Returns the final-loss ratio of each pair of runs.

  Args:
    candidate: final losses; what is not finite has diverged.
    reference: final losses of the reference, run by run.
  """
  ours, theirs = (
    np.where(np.isfinite(x), np.asarray(x, np.float64), np.inf)
    for x in (candidate, reference)
  )
  with np.errstate(divide="ignore", invalid="ignore"):
    quotient = theirs / ours
  quotient = np.where((ours < 0) | (theirs < 0), np.nan, quotient)
  quotient = np.where(np.isinf(ours), 0.0, quotient)
  quotient = np.where(np.isinf(theirs), np.inf, quotient)
  return np.where(ours == theirs, 1.0, quotient)
