"""How long inner runs are, and what the optimizer is told of it.

Lengths are log-uniform between two bounds, rounded to whole unrolls. A
curriculum of C outer steps begins with the shortest and lets the longest grow
by a constant factor per outer step,

    high(n) = low (high / low)**min(1, n / C),

without recompilation, since bounds are data. Of the runs, a share is not told
its length, and of those that are told a share is told a wrong one, off by a
log-uniform factor between 1/5 and 5: users misjudge their training's length,
and stop it early or go on.

Main names: `draw_length`, `unrolls`, `draw_told`, `WRONG`.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

#: The largest factor by which a wrong horizon is off, in either direction.
WRONG = 5.0


def unrolls(*, truncation: int, low: int, high: int) -> tuple[int, int]:
  """Returns the fewest and the most unrolls of an episode.

  Args:
    truncation: inner steps per unroll.
    low: shortest episode, in inner steps.
    high: longest episode, in inner steps.
  """
  return -(-low // truncation), high // truncation


def draw_length(
  key: PRNGKeyArray,
  outer_step: Int[Array, ""] | int,
  *,
  truncation: int,
  low: int,
  high: int,
  curriculum: int = 0,
) -> Int[Array, ""]:
  """Draws the length of an episode, in inner steps.

  Args:
    key: random key.
    outer_step: where the curriculum stands.
    truncation: inner steps per unroll, of which lengths are multiples.
    low: shortest, in inner steps.
    high: longest, in inner steps.
    curriculum: outer steps until the longest is `high`; 0: from the start.
  """
  first, last = math.log(low), jnp.float32(math.log(high))
  if curriculum:
    share = jnp.minimum(jnp.asarray(outer_step, jnp.float32) / curriculum, 1.0)
    last = first + (last - first) * share
  drawn = jnp.exp(jax.random.uniform(key, minval=first, maxval=last))
  bounds = unrolls(truncation=truncation, low=low, high=high)
  count = jnp.clip(jnp.round(drawn / truncation), *bounds)
  return (count * truncation).astype(jnp.int32)


def draw_told(
  key: PRNGKeyArray,
  length: Int[Array, ""],
  *,
  withhold: float,
  wrong: float = 0.0,
) -> Float[Array, ""]:
  """Draws what the optimizer is told of a length, in inner steps.

  Args:
    key: random key.
    length: the true length.
    withhold: probability that it is told nothing.
    wrong: probability, where it is told, that it is told a wrong length.

  Returns:
    A whole number of inner steps, 0 where it is told nothing.
  """
  told = length.astype(jnp.float32)
  if wrong:
    wrong_key, factor_key = jax.random.split(jax.random.fold_in(key, 2))
    bound = math.log(WRONG)
    factor = jnp.exp(
      jax.random.uniform(factor_key, minval=-bound, maxval=bound)
    )
    off = jnp.maximum(jnp.round(told * factor), 1.0)
    told = jnp.where(jax.random.bernoulli(wrong_key, wrong), off, told)
  return jnp.where(jax.random.bernoulli(key, 1.0 - withhold), told, 0.0)
