"""The progress of the loss, where the user passes it as `value`.

Two averages of the training loss, with 0.9 and 0.99, of which the controller
sees the difference,

    trend = (fast - slow) / (|fast| + |slow|),

in [-1, 1] and free of the loss's scale: negative while the loss falls. Steps
without a value leave it as it is, and whoever never passes one gets 0.

Main names: `Progress`, `observe`, `trend`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

FAST, SLOW = 0.9, 0.99
TINY = 1e-30


class Progress(NamedTuple):
  """Averages of the loss, and their masses."""

  fast: Float[Array, ""]
  slow: Float[Array, ""]
  fast_mass: Float[Array, ""]
  slow_mass: Float[Array, ""]


def init(dtype=jnp.float32) -> Progress:
  """Returns the state before the first value."""
  return Progress(*(jnp.zeros([], dtype) for _ in Progress._fields))


def observe(state: Progress, value) -> Progress:
  """Takes in a loss; `None`, and one that is not finite, change nothing.

  Raises:
    ValueError: `value` is not a scalar.
  """
  if value is None:
    return state
  value = jnp.asarray(value).astype(state.fast.dtype)
  if value.ndim:
    raise ValueError(
      f"value has shape {value.shape}, but it must be the loss, a scalar; "
      "take its mean over devices or examples first."
    )
  seen = Progress(
    fast=FAST * state.fast + (1 - FAST) * value,
    slow=SLOW * state.slow + (1 - SLOW) * value,
    fast_mass=FAST * state.fast_mass + (1 - FAST),
    slow_mass=SLOW * state.slow_mass + (1 - SLOW),
  )
  keep = jnp.isfinite(value) & (jnp.abs(value) < 1e30)
  return Progress(
    *(jnp.where(keep, new, old) for new, old in zip(seen, state, strict=True))
  )


def trend(state: Progress) -> Float[Array, ""]:
  """Returns the relative change of the loss, in [-1, 1]."""
  fast = state.fast / jnp.maximum(state.fast_mass, TINY)
  slow = state.slow / jnp.maximum(state.slow_mass, TINY)
  size = jnp.abs(fast) + jnp.abs(slow)
  some = size > TINY
  return jnp.where(some, (fast - slow) / jnp.where(some, size, 1.0), 0.0)


def is_known(state: Progress) -> Float[Array, ""]:
  """Returns 1 once a value was seen, before that 0."""
  return (state.fast_mass > 0).astype(state.fast.dtype)
