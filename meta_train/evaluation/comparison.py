"""Statistics of paired runs: tuning, ratios, intervals, wins.

Idea: run i of every optimizer starts from the same parameters and sees the
same batches, so optimizers are compared run by run; the interval comes from
resampling whole pairs. A run that diverged has the loss infinity: it is worse
than any other, it ties with another that diverged, and it is counted.

Source: B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993
(percentile interval over pairs).

Names: `Comparison`, `compare`, `best_rate`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from meta_train.evaluation.measures import ratios, ties


class Comparison(NamedTuple):
  """A candidate against a reference over paired runs; lower is better.

  Attributes:
    num_pairs: number of runs.
    candidate_mean: mean loss of the candidate.
    reference_mean: mean loss of the reference.
    mean_ratio: reference_mean / candidate_mean, above 1 where the candidate
      is better; see `measures.ratios`.
    mean_ratio_low: lower end of its bootstrap interval; NaN of one run.
    mean_ratio_high: upper end of its bootstrap interval.
    wins: runs in which the candidate is lower.
    ties: runs in which both are equal but for rounding, see `measures.ties`.
    confidence: coverage that the interval aims at.
  """

  num_pairs: int
  candidate_mean: float
  reference_mean: float
  mean_ratio: float
  mean_ratio_low: float
  mean_ratio_high: float
  wins: int
  ties: int
  confidence: float


def _losses(values) -> Float[np.ndarray, "runs"]:
  """Returns losses as float64 with everything that is not finite worst."""
  values = np.asarray(values, np.float64)
  return np.where(np.isfinite(values), values, np.inf)


def compare(
  candidate: Float[np.ndarray, "runs"],
  reference: Float[np.ndarray, "runs"],
  *,
  num_resamples: int = 10_000,
  confidence: float = 0.95,
  seed: int = 0,
) -> Comparison:
  """Compares a candidate with a reference, run by run.

  The interval is the percentile bootstrap of the ratio of means: pairs are
  drawn with replacement, and the ratio is formed from each draw.

  Args:
    candidate: final losses, run i paired with run i of the reference; NaN
      and infinities of any sign count as diverged.
    reference: final losses of the reference.
    num_resamples: bootstrap draws.
    confidence: coverage of the interval, in (0, 1).
    seed: seed of the draws.

  Returns:
    The comparison; see `Comparison`.

  Raises:
    ValueError: the runs can't be paired, or there are none.
  """
  candidate, reference = _losses(candidate), _losses(reference)
  if candidate.shape != reference.shape or candidate.size == 0:
    raise ValueError(
      f"{candidate.size} runs can't be paired with {reference.size}; "
      "give both optimizers the same, at least one, number of runs."
    )
  size, tied = candidate.size, ties.tied(candidate, reference)
  # What differs by rounding alone has a ratio of 1.
  ours = np.where(tied, reference, candidate)
  draws = np.random.default_rng(seed).integers(size, size=(num_resamples, size))
  resampled = ratios.loss_ratio(
    ours[draws].mean(axis=1), reference[draws].mean(axis=1)
  )
  tail = (1.0 - confidence) / 2.0
  # Interpolating between two infinities would give NaN; the nearest draw
  # does not.
  low, high = np.quantile(resampled, [tail, 1.0 - tail], method="nearest")
  if size == 1:  # One seed shows nothing of what another would change.
    low = high = np.nan
  return Comparison(
    num_pairs=size,
    candidate_mean=float(candidate.mean()),
    reference_mean=float(reference.mean()),
    mean_ratio=float(ratios.loss_ratio(ours.mean(), reference.mean())),
    mean_ratio_low=float(low),
    mean_ratio_high=float(high),
    wins=int(((candidate < reference) & ~tied).sum()),
    ties=int(tied.sum()),
    confidence=confidence,
  )


def best_rate(losses: Mapping[float, Float[np.ndarray, "runs"]]) -> float:
  """Returns the learning rate with the best mean final loss.

  One diverged run makes a mean infinite. If every rate has one, fewest
  failures decide, then the median, then the smaller rate.

  Args:
    losses: learning rate -> final losses over runs.

  Returns:
    The tuned learning rate.

  Raises:
    ValueError: there is no rate to choose from.
  """
  if not losses:
    raise ValueError(
      "no learning rate to choose from: `losses` is empty; evaluate "
      "the baseline first."
    )

  def badness(rate: float):
    runs = _losses(losses[rate])
    return runs.mean(), np.isinf(runs).sum(), np.median(runs), rate

  return min(losses, key=badness)
