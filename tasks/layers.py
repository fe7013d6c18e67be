"""Parts of models: initialisers, activations, layers as pure functions.

Main names: `variance_scaled`, `dense`, `conv`, `layer_norm`, `activation`.
"""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

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
  return normal(key, shape) * (scale / fan_in) ** 0.5


def normal(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "*shape"]:
  """Samples normal float32 numbers.

  Drawn flat: on a CPU the same numbers drawn in the shape of a matrix take
  eight times as long to compile.
  """
  flat = jax.random.normal(key, (math.prod(shape),), jnp.float32)
  return flat.reshape(shape)


def uniform(
  key: PRNGKeyArray,
  shape: tuple[int, ...],
  low: float = 0.0,
  high: float = 1.0,
) -> Float[Array, "*shape"]:
  """Samples uniform float32 numbers, drawn flat like `normal`."""
  flat = jax.random.uniform(
    key, (math.prod(shape),), jnp.float32, minval=low, maxval=high
  )
  return flat.reshape(shape)


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


def init_norm(size: int) -> dict[str, Array]:
  """Makes the scale and offset of a normalisation over `size` channels."""
  return {
    "offset": jnp.zeros((size,), jnp.float32),
    "scale": jnp.ones((size,), jnp.float32),
  }


def layer_norm(
  layer: Mapping[str, Array], x: Float[Array, "*batch channels"]
) -> Float[Array, "*batch channels"]:
  """Normalises the last axis (Ba et al., "Layer normalization", 2016)."""
  return _normalize(layer, x, (-1,))


def batch_norm(
  layer: Mapping[str, Array], x: Float[Array, "*batch channels"]
) -> Float[Array, "*batch channels"]:
  """Normalises all axes but the last, by the batch at hand.

  (Ioffe and Szegedy, "Batch normalization", 2015; no running averages.)
  """
  return _normalize(layer, x, tuple(range(x.ndim - 1)))


def _normalize(
  layer: Mapping[str, Array], x: Array, axes: tuple[int, ...]
) -> Array:
  wide = x.astype(jnp.float32)
  centred = wide - jnp.mean(wide, axis=axes, keepdims=True)
  variance = jnp.mean(centred * centred, axis=axes, keepdims=True)
  unit = (centred * jax.lax.rsqrt(variance + 1e-5)).astype(x.dtype)
  return unit * layer["scale"] + layer["offset"]


NORMS: Mapping[str, Callable[[Mapping[str, Array], Array], Array]] = {
  "none": lambda layer, x: x,
  "layer": layer_norm,
  "batch": batch_norm,
}


def norm(name: str) -> Callable[[Mapping[str, Array], Array], Array]:
  """Returns a normalisation by name; see `NORMS`."""
  if name not in NORMS:
    raise names.unknown_name("normalisation", name, NORMS)
  return NORMS[name]


def init_conv(
  key: PRNGKeyArray,
  num_in: int,
  num_out: int,
  *,
  size: int = 3,
  scale: float = 2.0,
) -> dict[str, Array]:
  """Samples a convolution: `w` [size, size, in, out] and zero biases `b`."""
  return {
    "b": jnp.zeros((num_out,), jnp.float32),
    "w": variance_scaled(key, (size, size, num_in, num_out), scale=scale),
  }


def conv(
  layer: Mapping[str, Array],
  x: Float[Array, "batch height width in"],
  *,
  stride: int = 1,
) -> Float[Array, "batch height_out width_out out"]:
  """Convolves with zero padding, as shifted slices and one product.

  On a CPU a convolution that is vmapped over weights is many times slower
  than the same in this form.

  Args:
    layer: Weights and biases of `init_conv`.
    x: Images.
    stride: Step between outputs along both axes.

  Returns:
    Images of 1 / `stride` the size, rounded up.
  """
  w = layer["w"]
  size = w.shape[0]
  height, width = x.shape[1], x.shape[2]
  before = (size - 1) // 2
  pad = (before, size - 1 - before)
  padded = jnp.pad(x.astype(w.dtype), ((0, 0), pad, pad, (0, 0)))
  slices = [
    padded[:, i : i + height : stride, j : j + width : stride]
    for i in range(size)
    for j in range(size)
  ]
  columns = jnp.concatenate(slices, axis=-1)
  return columns @ w.reshape(-1, w.shape[-1]) + layer["b"]


def embed(
  table: Float[Array, "vocabulary channels"], tokens: Int[Array, "*batch"]
) -> Float[Array, "*batch channels"]:
  """Looks tokens up by a product, whose gradient needs no scatter."""
  return jax.nn.one_hot(tokens, table.shape[0], dtype=table.dtype) @ table


def to_patches(
  image: Float[Array, "batch height width channels"], size: int
) -> Float[Array, "batch patches pixels"]:
  """Cuts images into square patches, row by row."""
  batch, height, width, channels = image.shape
  if height % size or width % size:
    raise ValueError(
      f"patch_size={size} must divide the image of {height} x {width} pixels."
    )
  grid = image.reshape(
    batch, height // size, size, width // size, size, channels
  )
  return grid.swapaxes(2, 3).reshape(batch, -1, size * size * channels)
