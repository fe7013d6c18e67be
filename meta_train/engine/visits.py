"""Which task families an outer step visits.

With many families an outer step on all of them is long, and one on a few is
as good per second. Families are visited in rounds: each round deals all of
them, in a new random order, to its outer steps, so that all are visited
equally often and the meta-gradient favours none. The order comes from the
run's seed and the outer step alone: nothing needs to be kept to resume.

Main names: `Visits`.
"""

import functools

import numpy as np


class Visits:
  """The families of each outer step; final.

  Args:
    num_families: how many there are.
    per_step: how many to visit in an outer step, at most; 0: all.
    seed: of the order.
  """

  def __init__(self, num_families: int, *, per_step: int = 0, seed: int = 0):
    self._num_families = num_families
    self._seed = seed
    per_step = per_step or num_families
    #: Outer steps of a round.
    self.round = -(-num_families // per_step)

  def at(self, outer_step: int) -> tuple[int, ...]:
    """Returns the numbers of the families to visit, ascending."""
    number, turn = divmod(outer_step, self.round)
    return self._round(number)[turn]

  def first(self, num_steps: int, start: int = 0) -> list[int]:
    """Returns the families in the order in which they are first visited.

    Args:
      num_steps: outer steps to look at.
      start: the first of them.
    """
    steps = range(start, start + min(num_steps, 2 * self.round))
    return list(dict.fromkeys(n for step in steps for n in self.at(step)))

  @functools.lru_cache(maxsize=2)  # noqa: B019, one object a run
  def _round(self, number: int) -> list[tuple[int, ...]]:
    if self.round == 1:
      return [tuple(range(self._num_families))]
    generator = np.random.default_rng((self._seed, number))
    order = generator.permutation(self._num_families)
    parts = np.array_split(order, self.round)
    return [tuple(sorted(map(int, part))) for part in parts]
