"""Parts of models: initialisers, activations and dense layers.

Main names: `variance_scaled`, `init_dense`, `dense`, `activation`.
"""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import names

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
  "relu": lambda x: jnp.maximum(x, 0),
  "leaky_relu": lambda x: jnp.maximum(x, 0.1 * x),
  "tanh": jnp.tanh,
  "sigmoid": jax.nn.sigmoid,
  "gelu": jax.nn.gelu,
  "silu": jax.nn.silu,
  "elu": jax.nn.elu,
  "softplus": jax.nn.softplus,
  "sine": jnp.sin,
}


def activation(name: str) -> Callable[[Array], Array]:
  """Returns an elementwise function by name; see `ACTIVATIONS`."""
  if name not in ACTIVATIONS:
    raise names.unknown_name("activation", name, ACTIVATIONS)
  return ACTIVATIONS[name]


def variance_scaled(
  key: PRNGKeyArray,
  shape: tuple[int, ...],
  *,
  scale: float = 1.0,
  fan_in: int | None = None,
) -> Float[Array, "*shape"]:
  """Samples weights of variance `scale / fan_in`.

  Args:
    key: Random key.
    shape: Shape of the weights.
    scale: 2 keeps the scale through a relu (He et al., "Delving deep into
      rectifiers", 2015), 1 through a linear layer.
    fan_in: Inputs that each output sums over; `None` for the product of all
      axes but the last.

  Returns:
    Normal float32 weights.
  """
  if fan_in is None:
    fan_in = 1
    for size in shape[:-1]:
      fan_in *= size
  # Drawn flat: on a CPU the same numbers drawn in the shape of a matrix take
  # eight times as long to compile.
  flat = jax.random.normal(key, (math.prod(shape),), jnp.float32)
  return flat.reshape(shape) * (scale / fan_in) ** 0.5


def init_dense(
  key: PRNGKeyArray, num_in: int, num_out: int, *, scale: float = 1.0
) -> dict[str, Array]:
  """Samples a dense layer: weights `w` [in, out] and zero biases `b`."""
  return {
    "b": jnp.zeros((num_out,), jnp.float32),
    "w": variance_scaled(key, (num_in, num_out), scale=scale),
  }


def dense(
  layer: Mapping[str, Array], x: Float[Array, "*batch in"]
) -> Float[Array, "*batch out"]:
  """Applies a dense layer; computes in the dtype of its weights."""
  return x.astype(layer["w"].dtype) @ layer["w"] + layer["b"]
