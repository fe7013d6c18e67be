"""Fitness shaping: what is credited in place of a pair's loss difference.

`none` credits d = L+ - L-, without bias. `rank` credits, among the k pairs
of a task,

    s sign(d) rank(|d|) / mean rank,    s = sqrt(2 pi) rms(sigma),

so that only the order of a task's differences counts: a task says the same
whatever the scale of its loss, and a pair of which one half has diverged
weighs no more than the largest of the others. With one pair it is the sign.
Where both halves lose alike, d = 0 and nothing is credited.

The bias: for a loss that is linear in theta, with gradient h and one pair,
the expectation is rms(sigma) h / |sigma h|, parallel to the gradient but of
length 1 (where sigma is shared, and the pair has one perturbation). So each
unroll of each task has one vote, tasks are averaged as directions rather than
gradients, a task whose differences are mostly noise has a weaker vote, and
where the loss is curved on the scale of sigma the direction is off too. The
unrolls of an episode no longer sum up to the gradient of its loss.

Votes are not alike in `pes`, which credits the sum of an episode's
perturbations so far: after k unrolls that is sqrt(k) times as long as one, and
the expectation is up to as much longer, where all of them matter alike. So
later unrolls of long episodes weigh the most.

Ranks are taken within a task, not over an outer step: losses of different
tasks have no common scale, and an estimate then depends on no other task, nor
on how tasks are spread over devices.

Reference: Salimans, Ho, Chen, Sidor, Sutskever, "Evolution Strategies as a
Scalable Alternative to Reinforcement Learning" (2017), for ranks over one
task's population.

Main names: `SHAPINGS`.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

#: One standard deviation for all meta-parameters, or one for each.
Sigma = float | Float[Array, "theta"]
Shaping = Callable[[Float[Array, "pairs"], Sigma], Float[Array, "pairs"]]


def _none(differences, sigma):
  del sigma
  return differences


def _rank(differences, sigma):
  size = jnp.abs(differences)
  # Equal sizes share their ranks, as no order of pairs may matter.
  below = jnp.sum(size[:, None] > size, axis=1)
  equal = jnp.sum(size[:, None] == size, axis=1)
  rank = below + (equal + 1) / 2
  unit = math.sqrt(2 * math.pi) * jnp.sqrt(jnp.mean(jnp.square(sigma)))
  return unit * jnp.sign(differences) * rank / ((len(size) + 1) / 2)


SHAPINGS: dict[str, Shaping] = {"none": _none, "rank": _rank}
