"""The clock: where in its run the optimizer is.

The position of attention over optimization timesteps is the step counter,
seen through three coordinates,

    r_t = (t, log(1 + t), t / T),

of which the third is absent when the number of steps `T` is not known.
Networks never see an unbounded coordinate: they get saturating ones,
`t / (t + c)`, which stay inside [0, 1) however long the run.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

WARMUP_FRACTION = 0.05
WARMUP_STEPS = 100
FINAL_FRACTION = 0.01
SATURATION_STEPS = (10.0, 100.0, 1000.0)
NUM_FEATURES = len(SATURATION_STEPS) + 2
COORDINATES = 2


class Clock(NamedTuple):
  """One moment of a run.

  Attributes:
    count: the number of finished steps t, so 0 at the first update.
    num_steps: the length T of the run in steps, 0 where it is not known.
  """

  count: Int[Array, ""]  # type: ignore[assignment]
  num_steps: Float[Array, ""]


def make(count, num_steps, dtype=jnp.float32) -> Clock:
  """Builds a `Clock`; `num_steps=None` is a run of unknown length.

  Everything computed from it has `dtype`.
  """
  total = 0 if num_steps is None else num_steps
  return Clock(count, jnp.asarray(total).astype(dtype))


def fraction(clock: Clock) -> Float[Array, ""]:
  """Returns t / T held at 1 past T, and 0 where T is not known."""
  known = clock.num_steps > 0
  total = jnp.where(known, clock.num_steps, 1.0)
  spent = jnp.minimum(clock.count.astype(clock.num_steps.dtype) / total, 1.0)
  return jnp.where(known, spent, 0.0)


def features(clock: Clock) -> Float[Array, "features"]:
  """Returns the bounded inputs of the networks.

  They are `t / (t + c)` for c of 10, 100 and 1000 steps, `t / T` (0 where T
  is not known), and 1 or 0 for whether T is known.
  """
  t = clock.count.astype(clock.num_steps.dtype)
  saturating = [t / (t + c) for c in SATURATION_STEPS]
  known = (clock.num_steps > 0).astype(t.dtype)
  return jnp.stack([*saturating, fraction(clock), known])


def coordinates(clock: Clock) -> Float[Array, "coordinates"]:
  """Returns the attention coordinates (log(1 + t) / log(1001), t / T).

  They are scaled to order one, since the spectrum of an encoding is: raw
  step counters alias.
  """
  t = clock.count.astype(clock.num_steps.dtype)
  return jnp.stack([jnp.log1p(t) / jnp.log(1001.0), fraction(clock)])


def nominal_schedule(clock: Clock) -> Float[Array, ""]:
  """Returns the multiplier of the step size that needs no learning.

  With T known it is `optax.warmup_cosine_decay_schedule` from 1 / (W + 1)
  over W = T // 20 steps to 1, then along a cosine to 0.01 at T, held after
  it. With T unknown it warms up over 100 steps in the same way and stays 1.
  """
  t = clock.count.astype(clock.num_steps.dtype)
  total = clock.num_steps
  known = total > 0
  warmup = jnp.where(
    known, jnp.floor(WARMUP_FRACTION * total), float(WARMUP_STEPS)
  )
  rising = (t + 1.0) / (warmup + 1.0)
  length = jnp.maximum(total - warmup, 1.0)
  spent = jnp.clip((t - warmup) / length, 0.0, 1.0)
  cosine = 0.5 * (1.0 + jnp.cos(jnp.pi * spent))
  falling = jnp.where(
    known, (1.0 - FINAL_FRACTION) * cosine + FINAL_FRACTION, 1.0
  )
  return jnp.where(t < warmup, rising, falling)
