"""The second moment v that readings are divided by, whole or factored.

Whole, it is one float per parameter,

    v <- lambda v + kappa g^2,   read v / Z.

Factored, a tensor of two or more axes keeps the means of g^2 over its last
axis and over the one before, so O(rows + columns), and reads

    v_ij = r_i c_j / mean(r),

which is exact where g^2 is of rank one. Vectors and scalars stay whole.

Reference: Shazeer & Stern, "Adafactor: Adaptive Learning Rates with Sublinear
Memory Cost" (2018).

Main names: `SECOND_MOMENTS`, `make_second_moment`, `Factors`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from flt_lopt.attention import registry

TINY = 1e-30


class Factors(NamedTuple):
  """Means of the squared gradient, summed over time."""

  rows: Float[Array, "*stack rows"]
  columns: Float[Array, "*stack columns"]


class Whole:
  """One float per parameter."""

  num_floats = 1

  def init(self, leaf, dtype):
    return jnp.zeros_like(leaf, dtype=dtype)

  def advance(self, state, gradient, decay, write):
    return decay * state + write * gradient * gradient

  def read(self, state, inverse_mass):
    """Returns v of every parameter."""
    return state * inverse_mass

  def mean_of(self, state):
    """Returns arrays whose mean is that of v before division by Z."""
    return state


class Factored:
  """Row and column means for tensors of two or more axes."""

  num_floats = 0

  def init(self, leaf, dtype):
    if leaf.ndim < 2:
      return Whole().init(leaf, dtype)
    return Factors(
      jnp.zeros(leaf.shape[:-1], dtype),
      jnp.zeros((*leaf.shape[:-2], leaf.shape[-1]), dtype),
    )

  def advance(self, state, gradient, decay, write):
    if not isinstance(state, Factors):
      return Whole().advance(state, gradient, decay, write)
    square = gradient * gradient
    return Factors(
      decay * state.rows + write * jnp.mean(square, axis=-1),
      decay * state.columns + write * jnp.mean(square, axis=-2),
    )

  def read(self, state, inverse_mass):
    if not isinstance(state, Factors):
      return state * inverse_mass
    mean = jnp.mean(state.rows, axis=-1, keepdims=True)
    rows = state.rows / jnp.maximum(mean, TINY)
    product = rows[..., :, None] * state.columns[..., None, :]
    return product * inverse_mass

  def mean_of(self, state):
    return state.rows if isinstance(state, Factors) else state


SECOND_MOMENTS = {"whole": Whole, "factored": Factored}


def make_second_moment(name: str) -> Whole | Factored:
  """Returns the second moment's form.

  Raises:
    ValueError: an unknown name.
  """
  registry.check_choice("second_moment", name, SECOND_MOMENTS)
  return SECOND_MOMENTS[name]()
