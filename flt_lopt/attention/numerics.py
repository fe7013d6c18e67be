"""Numbers that every form shares: precision, masks, positions, phases.

Phases of integer positions are reduced modulo one turn *exactly*: a frequency
is a fraction u / 2^32 of a turn per unit and the phase u t mod 2^32 is one
wrapping integer product, so there is no drift at any t < 2^32. The gradient is
straight through: d phase / d frequency = t.

Names: `einsum`, `phase`, `canonical_positions`, `work_dtype`, `NEGATIVE`.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

# Stands for minus infinity: finite, so that differences never give NaN.
NEGATIVE = -1e30

# Products that end up in an exponent must not be rounded to tf32 or bf16.
einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


def work_dtype(*arrays: Array) -> jnp.dtype:
  """Return the dtype to compute in: float32, or float64 if given."""
  return functools.reduce(
    jnp.promote_types, [a.dtype for a in arrays], jnp.dtype(jnp.float32)
  )


def canonical_positions(
  positions: Num[Array, "..."] | None,
  *,
  length: int,
  coord_dim: int,
) -> Num[Array, "*batch length coords"]:
  """Return positions with an explicit coordinate axis.

  Args:
    positions: `None` for 0, 1, ..., length - 1; `[length]` for one
      coordinate; `[..., length, coords]` in general. Integers get exactly
      reduced phases, floats should be scaled to O(1).
    length: the expected number of positions.
    coord_dim: the expected number of coordinates.

  Raises:
    ValueError: the shape does not fit.
  """
  if positions is None:
    if coord_dim != 1:
      raise ValueError(
        f"positions=None means 0, 1, 2, ..., one coordinate, but "
        f"coord_dim={coord_dim}; pass positions of shape "
        f"[..., {length}, {coord_dim}]."
      )
    return jnp.arange(length, dtype=jnp.int32)[:, None]
  positions = jnp.asarray(positions)
  if coord_dim == 1 and positions.ndim == 1:
    positions = positions[:, None]
  if positions.ndim < 2 or positions.shape[-2:] != (length, coord_dim):
    raise ValueError(
      f"positions has shape {positions.shape}; expected "
      f"[..., {length}, {coord_dim}] (length, coordinates)."
    )
  return positions


@jax.custom_jvp
def _integer_phase(frequency: Array, positions: Array) -> Array:
  wrapped = frequency - jnp.floor(frequency + 0.5)
  scaled = jnp.clip(wrapped * 2.0**32, -(2.0**31), 2.0**31 - 128)
  turns = scaled.astype(jnp.int32).astype(jnp.uint32)
  # [..., length, 1, 1, coords] x [heads, lines, coords], wrapping.
  product = positions.astype(jnp.uint32)[..., None, None, :] * turns
  total = jnp.sum(product, axis=-1, dtype=jnp.uint32).astype(jnp.int32)
  return total.astype(frequency.dtype) * 2.0**-32


@_integer_phase.defjvp
def _integer_phase_jvp(primals, tangents):
  frequency, positions = primals
  steps = positions.astype(frequency.dtype)
  return (
    _integer_phase(frequency, positions),
    _float_phase(tangents[0], steps),
  )


def _float_phase(frequency: Array, positions: Array) -> Array:
  return einsum("...d,hld->...hl", positions, frequency)


def phase(
  frequency: Float[Array, "heads lines coords"],
  positions: Num[Array, "*shape coords"],
) -> Float[Array, "*shape heads lines"]:
  """Return frequency . position in turns.

  For integer positions the result is reduced exactly to [-1/2, 1/2), with
  the frequency rounded to a multiple of 2^-32 turns per unit; for float
  positions it is the plain product, good while coordinates are O(1).

  Args:
    frequency: turns per unit of each coordinate.
    positions: integer or float coordinates (or lags).
  """
  if jnp.issubdtype(positions.dtype, jnp.integer):
    return _integer_phase(frequency, positions)
  return _float_phase(frequency, positions.astype(frequency.dtype))
