"""The second moment v that readings are divided by, whole or factored.

Whole, it is one float per parameter,

    v <- lambda v + kappa g^2,   read v / Z.

Factored, a tensor of two or more axes keeps the means of g^2 over its last
axis and over the one before, so O(rows + columns), and reads

    v_ij = r_i c_j / mean(r),

which is exact where g^2 is of rank one. Vectors and scalars stay whole. Far
from rank one v_ij can be nearly 0 where g_ij isn't. So what is divided by its
root is held to 31.6, or 1 / sqrt(1 - b2) at b2 = 0.999, which Adam's direction
never exceeds there. (Adafactor limits the RMS of its updates.)

Reference: Shazeer & Stern, "Adafactor: Adaptive Learning Rates with Sublinear
Memory Cost" (2018).

Main names: `SECOND_MOMENTS`, `make_second_moment`.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array

from flt_lopt.attention import registry

TINY = 1e-30
#: Largest entry of a direction that is divided by a factored moment's root.
MAX_DIRECTION = 0.001**-0.5


class Whole:
  """One float per parameter: the state is (v,)."""

  num_floats = 1
  num_arrays = 1

  def init(self, leaf, dtype) -> tuple[Array, ...]:
    return (jnp.zeros_like(leaf, dtype=dtype),)

  def advance(self, state: Sequence[Array], gradient, decay, write):
    """Takes in a gradient; returns the new state."""
    return (decay * state[0] + write * gradient * gradient,)

  def read(self, state: Sequence[Array], inverse_mass):
    """Returns v of every parameter."""
    return state[0] * inverse_mass

  def limit(self, direction):
    """Returns what was divided by the root of v, as far as it is trusted."""
    return direction


class Factored:
  """The state is (row means, column means), or (v, one 0) of a vector."""

  num_floats = 0
  num_arrays = 2

  def init(self, leaf, dtype) -> tuple[Array, ...]:
    zeros = jnp.zeros_like(leaf, dtype=dtype)
    # Sums, and not zeros of that shape: they lie on devices as `leaf` does.
    if zeros.ndim < 2 or not zeros.size:
      return zeros, jnp.sum(zeros)
    return jnp.sum(zeros, axis=-1), jnp.sum(zeros, axis=-2)

  def advance(self, state: Sequence[Array], gradient, decay, write):
    rows, columns = state
    if not columns.ndim:
      return *Whole().advance(state, gradient, decay, write), columns
    square = gradient * gradient
    return (
      decay * rows + write * jnp.mean(square, axis=-1),
      decay * columns + write * jnp.mean(square, axis=-2),
    )

  def read(self, state: Sequence[Array], inverse_mass):
    rows, columns = state
    if not columns.ndim:
      return rows * inverse_mass
    mean = jnp.mean(rows, axis=-1, keepdims=True)
    share = rows / jnp.maximum(mean, TINY)
    return share[..., :, None] * columns[..., None, :] * inverse_mass

  def limit(self, direction):
    return jnp.clip(direction, -MAX_DIRECTION, MAX_DIRECTION)


SECOND_MOMENTS: dict[str, type[Whole] | type[Factored]] = {
  "whole": Whole,
  "factored": Factored,
}


def make_second_moment(name: str) -> Whole | Factored:
  """Returns the second moment's form.

  Its state is a tuple of arrays per tensor, of which the mean of the first
  is that of v times the mass.

  Raises:
    ValueError: an unknown name.
  """
  registry.check_choice("second_moment", name, SECOND_MOMENTS)
  return SECOND_MOMENTS[name]()
