"""The direction network: one tiny perceptron per parameter.

With y_k the readings of the memory over the root second moment, the gradient
likewise among them, and y_n the nominal one of them, a parameter's direction is

    d = c_n y_n + sum_{k != n} c_k clip(y_k) + w2 . relu(W1 x + b1 + Wz z) + b2,

where the learned c_n is 1 and the other c_k are 0 at initialisation, clip
bounds its argument by +-3, x are the features, all of them clipped (the y_k,
the parameter in units of its tensor's size, and how large the second moment
is within the tensor), and z the clock's features, which all parameters share.
Optionally d is multiplied by exp(m), bounded, with m from a second output.
The last layer is zero at initialisation. With `direction="linear"` there is no
network, and d is the sum of readings alone.

Haiku declares the parameters. The arithmetic is unpacked into scalar times
tensor expressions, which XLA fuses with the memory into one pass over the
tensor: a [parameters, features] array is never built. Wider networks were
found worse by Thérien et al., "Celo2" (2026); width belongs to the tensor
level and to time.
"""

from typing import Any, NamedTuple

import haiku as hk
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from flt_lopt import clock

#: Features that do not come from the memory: gradient, parameter, scale.
EXTRA_FEATURES = 3
CLIP = 3.0
MAX_LOG_MAGNITUDE = 2.0


class Weights(NamedTuple):
  """The network of one tensor at one step.

  Attributes:
    first: first-layer weights, [features][hidden] scalars.
    bias: first-layer bias, [hidden] scalars, the clock's part included.
    last: last-layer weights, [hidden] scalars.
    offset: last-layer bias, a scalar.
    magnitude: last-layer weights of the log factor, none without it.
  """

  first: tuple[tuple[Float[Array, "..."], ...], ...]
  bias: tuple[Float[Array, "..."], ...]
  last: tuple[Float[Array, "..."], ...]
  offset: Float[Array, "..."]
  magnitude: tuple[Float[Array, "..."], ...]


def _declare(num_features: int, hidden: int, has_magnitude: bool):
  fan_in = hk.initializers.VarianceScaling(2.0)
  shared = hk.initializers.VarianceScaling(1.0)
  float32 = jnp.float32
  w1 = hk.get_parameter("first", [num_features, hidden], float32, fan_in)
  b1 = hk.get_parameter("bias", [hidden], float32, jnp.zeros)
  wz = hk.get_parameter("clock", [clock.NUM_FEATURES, hidden], float32, shared)
  w2 = hk.get_parameter("last", [hidden], float32, jnp.zeros)
  b2 = hk.get_parameter("offset", [], float32, jnp.zeros)
  w3: Any = ()
  if has_magnitude:
    w3 = hk.get_parameter("magnitude", [hidden], float32, jnp.zeros)
  return w1, b1, wz, w2, b2, w3


def _network(num_features: int, hidden: int, has_magnitude: bool):
  def weights(clock_features):
    declared = _declare(num_features, hidden, has_magnitude)
    w1, b1, wz, w2, b2, w3 = declared
    bias = b1 + clock_features @ wz
    return Weights(
      first=tuple(
        tuple(w1[i, j] for j in range(hidden)) for i in range(len(w1))
      ),
      bias=tuple(bias[j] for j in range(hidden)),
      last=tuple(w2[j] for j in range(hidden)),
      offset=b2,
      magnitude=tuple(w3),
    )

  return hk.without_apply_rng(hk.transform(weights))


def init(key, num_reads: int, hidden: int, *, has_magnitude: bool):
  """Returns the meta-parameters as one dict of float32 arrays."""
  network = _network(num_reads + EXTRA_FEATURES, hidden, has_magnitude)
  theta = network.init(key, jnp.zeros(clock.NUM_FEATURES))
  return dict(theta["~"])


def unpack(
  theta, num_reads: int, clock_features: Float[Array, "features"]
) -> Weights:
  """Returns this step's weights as scalars."""
  hidden = theta["bias"].shape[0]
  network = _network(num_reads + EXTRA_FEATURES, hidden, "magnitude" in theta)
  return network.apply({"~": theta}, clock_features)


def clip(x: Float[Array, "..."], high) -> Float[Array, "..."]:
  """Returns x within +-high, and NaN where it is.

  `jnp.clip` and `jax.nn.relu` treat NaN on both sides, which costs a CPU
  three instructions for one.

  Args:
    x: a feature.
    high: `limit(x)`.
  """
  x = lax.select(lax.gt(x, high), high, x)
  low = lax.neg(high)
  return lax.select(lax.lt(x, low), low, x)


def limit(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """Returns the largest value of a feature, as an array like x."""
  return jnp.full_like(x, CLIP)


def apply(weights: Weights, nominal, features) -> Float[Array, "..."]:
  """Returns the direction of every parameter; element-wise.

  Args:
    weights: the unpacked network.
    nominal: the combination of readings, the sum over c_k above.
    features: one array of the tensor's shape per input, clipped.
  """
  # Each operation here is one of every tensor's in the program that is to be
  # compiled: hence no more of them than needed.
  total = nominal + weights.offset
  zero = jnp.zeros_like(total)
  log_magnitude = None
  for j, last in enumerate(weights.last):
    hidden = weights.bias[j]
    for i, x in enumerate(features):
      hidden = hidden + weights.first[i][j] * x
    hidden = lax.select(lax.gt(hidden, zero), hidden, zero)
    total = total + last * hidden
    if weights.magnitude:
      term = weights.magnitude[j] * hidden
      log_magnitude = term if log_magnitude is None else log_magnitude + term
  if log_magnitude is None:
    return total
  bounded = jnp.clip(log_magnitude, -MAX_LOG_MAGNITUDE, MAX_LOG_MAGNITUDE)
  return total * jnp.exp(bounded)
