"""A power of two per tensor, so that no gradient is too large or too small.

The memory holds gradients divided by 2**e, where e follows the size of the
tensor's gradients. Multiplying by a power of two is exact, so nothing changes
but the range: the squares of gradients from 1e-30 to 1e30 stay in float32.
Where e changes, the memory is rescaled by its decay, at no cost.

Main names: `exponent`, `power_of_two`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

#: (integer of the same width, bits of the mantissa, bias of the exponent).
_FORMATS = {
  "float32": (jnp.int32, 23, 127),
  "float64": (jnp.int64, 52, 1023),
}


def exponent(x: Float[Array, "..."]) -> Int[Array, "..."]:
  """Returns floor(log2(x)) of positive normal numbers, exactly, as int32."""
  integer, mantissa, bias = _FORMATS[x.dtype.name]
  bits = jax.lax.bitcast_convert_type(jax.lax.stop_gradient(x), integer)
  return ((bits >> mantissa) - bias).astype(jnp.int32)


def power_of_two(e: Int[Array, "..."], dtype) -> Float[Array, "..."]:
  """Returns 2**e exactly; 0 or the largest power where it leaves the range."""
  integer, mantissa, bias = _FORMATS[jnp.dtype(dtype).name]
  biased = jnp.clip(e.astype(integer) + bias, 0, 2 * bias)
  return jax.lax.bitcast_convert_type(biased << mantissa, jnp.dtype(dtype))
