"""How the memory is stored between steps: float32, or bfloat16.

bfloat16 has 8 bits of precision, so an average with beta = 0.999 moves by
less than half a unit in the last place each step, and rounding to nearest
would silently freeze it. It is rounded stochastically instead: up with the
probability of the part that is cut off, so that the stored value is right on
average,

    E[round(x)] = x,   |round(x) - x| <= 2^-7 |x|.

Its random bits are a hash of the step, the place of the parameter in its
tensor and the number of the float, so they cost a few integer operations,
and are the same on one device and on many, and in both layouts. The error of
an average with time constant tau is about 2^-8 sqrt(tau / 6): 5 % at 1,000
steps. Poles that begin slower than 2,000 steps are refused; those that
meta-training or gates slow down further are held with more of that error.

Main names: `Storage`, `make_storage`, `STORAGES`.
"""

import abc
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from flt_lopt.attention import registry
from flt_lopt.memory.poles import Pole

#: The slowest time constant, in steps, that bfloat16 may hold.
MAX_TIME_CONSTANT = 2000.0


class Storage(abc.ABC):
  """How one float of a parameter's state is kept."""

  @abc.abstractmethod
  def dtype(self, work_dtype):
    """Returns the dtype of stored arrays."""

  @abc.abstractmethod
  def keep(self, values, count: Int[Array, ""], first: int, places=None):
    """Returns what is stored.

    Args:
      values: arrays of one shape.
      count: finished steps.
      first: number of the first array among the floats of a parameter.
      places: of each element in its tensor, uint32; `None` where the arrays
        are one tensor.
    """


class Full(Storage):
  """The dtype of the computation."""

  def dtype(self, work_dtype):
    return work_dtype

  def keep(self, values, count, first, places=None):
    del count, first, places
    return tuple(values)


class BFloat16(Storage):
  """bfloat16, rounded stochastically."""

  def dtype(self, work_dtype):
    del work_dtype
    return jnp.bfloat16

  def keep(self, values, count, first, places=None):
    if not values:
      return ()
    place = _places(values[0].shape) if places is None else places
    kept = []
    for number, value in enumerate(values, first):
      if number == first or (number - first) % 2 == 0:
        salt = count.astype(jnp.uint32) * jnp.uint32(0x9E3779B1)
        bits = _hash(place ^ (salt + jnp.uint32(0x85EBCA77 * number % 2**32)))
        dither = bits & jnp.uint32(0xFFFF)
      else:
        dither = bits >> jnp.uint32(16)
      kept.append(_round(value, dither))
    return tuple(kept)


STORAGES = {"float32": Full, "bfloat16": BFloat16}


def make_storage(name: str, poles: tuple[Pole, ...] = ()) -> Storage:
  """Returns the storage.

  Args:
    name: "float32" (float64 where a parameter is), or "bfloat16".
    poles: what is to be stored.

  Raises:
    ValueError: an unknown name, or a pole too slow for it.
  """
  registry.check_choice("storage", name, STORAGES)
  for pole in poles if name == "bfloat16" else ():
    slow = 1.0 / pole.rate if pole.rate else math.inf
    if pole.coordinate != "step" or slow > MAX_TIME_CONSTANT:
      raise ValueError(
        f"storage='bfloat16' can't hold the pole with {pole.label}: its time "
        f"constant must be at most {MAX_TIME_CONSTANT:g} steps; use "
        "storage='float32', or other poles."
      )
  return STORAGES[name]()


def _places(shape: tuple[int, ...]):
  """Returns the number of each element, in row-major order, modulo 2**32."""
  place = jnp.zeros(shape, jnp.uint32)
  stride = 1
  for axis in reversed(range(len(shape))):
    along = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
    place = place + along * jnp.uint32(stride % 2**32)
    stride *= shape[axis]
  return place


def _hash(x):
  """The finaliser of MurmurHash3: every input bit reaches every output."""
  x = (x ^ (x >> jnp.uint32(16))) * jnp.uint32(0x85EBCA6B)
  x = (x ^ (x >> jnp.uint32(13))) * jnp.uint32(0xC2B2AE35)
  return x ^ (x >> jnp.uint32(16))


@jax.custom_jvp
def _round(value: Float[Array, "..."], dither) -> Float[Array, "..."]:
  """Rounds to bfloat16; `dither` is uniform on 16 bits."""
  bits = jax.lax.bitcast_convert_type(value.astype(jnp.float32), jnp.uint32)
  moved = (bits + dither) & jnp.uint32(0xFFFF0000)
  rounded = jax.lax.bitcast_convert_type(moved, jnp.float32)
  return rounded.astype(jnp.bfloat16)


@_round.defjvp
def _round_jvp(primals, tangents):
  # As if nothing were rounded, which is right on average.
  return _round(*primals), tangents[0].astype(jnp.bfloat16)
