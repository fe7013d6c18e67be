"""Is one optimizer better than another on a task? A paired test over seeds.

Run i of both starts from the same parameters and sees the same batches. If
the optimizers were equal, the sign of each difference d_i of final losses
would be as likely + as -; so the p-value is the share of the 2^n patterns of
signs whose sum is at most as large as the one seen,

  p = #{s in {-1, 1}^n : sum s_i |d_i| <= sum d_i} / 2^n,

an exact one-sided test with no assumption on the distribution. It can't be
below 2^-n: five seeds give 0.03 at best. Source: R. A. Fisher, "The Design of
Experiments", 1935.

A run that diverged is worse than any that did not, by more than all other
differences together; two that diverged are equal, and equal runs change
nothing. Losses, and means of them, are equal where they differ by at most 1e-5
of the larger magnitude (see `ties`).

Names: `sign_flip_p`, `chance_below`, `outcome`, `Outcome`, `is_better`, `SURE`.
"""

import itertools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from meta_train.evaluation.measures.ties import tied

#: p-value below which a win or a loss on a task counts as sure. Five seeds
#: that all agree have 1/32.
SURE = 0.05
_EXACT = 16  # Pairs up to which all patterns of signs are tried.
_DRAWS = 2**16


class Outcome(NamedTuple):
  """How a candidate fared on one task.

  Attributes:
    win: 1 for a lower mean final loss, 0 for a higher one, 1/2 for a tie.
    p_better: p-value of "the candidate is no better".
    p_worse: p-value of "the candidate is no worse".
  """

  win: float
  p_better: float
  p_worse: float


def _finite_or_inf(losses) -> Float[np.ndarray, "runs"]:
  losses = np.asarray(losses, np.float64)
  return np.where(np.isfinite(losses), losses, np.inf)


def _differences(candidate, reference) -> Float[np.ndarray, "runs"]:
  ours, theirs = _finite_or_inf(candidate), _finite_or_inf(reference)
  if ours.shape != theirs.shape or ours.size == 0:
    raise ValueError(
      f"{ours.size} runs can't be paired with {theirs.size}; give both "
      "optimizers the same, at least one, number of runs"
    )
  broken = np.isinf(ours) | np.isinf(theirs)
  with np.errstate(invalid="ignore"):
    finite = np.where(broken | tied(ours, theirs), 0.0, ours - theirs)
  beyond = 1.0 + 2.0 * np.abs(finite).sum()
  sign = np.isinf(ours).astype(float) - np.isinf(theirs).astype(float)
  return np.where(broken, sign * beyond, finite)


def sign_flip_p(
  candidate: Float[np.ndarray, "runs"],
  reference: Float[np.ndarray, "runs"],
  *,
  seed: int = 0,
) -> float:
  """Returns the p-value of "the candidate's losses are no lower".

  Args:
    candidate: final losses.
    reference: final losses of the same seeds.
    seed: of the random patterns that stand for all of them beyond 16 pairs.

  Raises:
    ValueError: the runs can't be paired.
  """
  differences = _differences(candidate, reference)
  size = differences.size
  if size <= _EXACT:
    signs = np.asarray(list(itertools.product((-1.0, 1.0), repeat=size)))
  else:
    rng = np.random.default_rng(seed)
    signs = rng.choice((-1.0, 1.0), size=(_DRAWS, size))
    signs[0] = np.sign(differences)  # So that p is never 0.
  sums = signs @ np.abs(differences)
  # Sums that are equal but for rounding count as equal.
  slack = 1e-12 * np.abs(differences).sum()
  return float(np.mean(sums <= differences.sum() + slack))


def chance_below(level: float, num_runs: int) -> float:
  """Returns how likely p is below a level where optimizers are equal.

  There are 2^n values, k / 2^n each as likely as the others, so it is the
  largest of them below the level; zero where runs are too few for any.

  Args:
    level: what p is compared with.
    num_runs: n above.
  """
  patterns = 2**num_runs
  return max(0, int(np.ceil(level * patterns)) - 1) / patterns


def is_better(
  candidate: Float[np.ndarray, "*draws runs"],
  reference: Float[np.ndarray, "*draws runs"],
) -> Float[np.ndarray, "*draws"]:
  """Returns 1, 0 or, for a tie, 1/2.

  The lower mean wins, by more than 1e-5 of the larger magnitude. One diverged
  run makes a mean infinite; between two such, fewer diverged runs win, then the
  lower median.
  """

  def badness(losses):
    losses = _finite_or_inf(losses)
    mean, broken = losses.mean(-1), np.isinf(losses).sum(-1)
    # Finite means that are equal are a tie, whatever the medians are.
    return mean, broken, np.where(broken, np.median(losses, -1), 0.0)

  result = np.asarray(0.5)
  pairs = list(zip(badness(candidate), badness(reference)))
  for ours, theirs in reversed(pairs):  # The first that differs decides.
    result = np.where(tied(ours, theirs), result, ours < theirs)
  return result


def outcome(
  candidate: Float[np.ndarray, "runs"], reference: Float[np.ndarray, "runs"]
) -> Outcome:
  """Returns win, loss or tie on a task, and how sure that is.

  Args:
    candidate: final losses; what is not finite has diverged.
    reference: final losses of the same seeds.

  Raises:
    ValueError: the runs can't be paired.
  """
  return Outcome(
    win=float(is_better(candidate, reference)),
    p_better=sign_flip_p(candidate, reference),
    p_worse=sign_flip_p(reference, candidate),
  )
