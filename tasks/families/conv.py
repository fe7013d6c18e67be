"""Image classification by a convolutional network.

Strided 3x3 convolutions, mean over places, a linear layer, after J.
Springenberg et al., "Striving for simplicity: the all convolutional net"
(2015).

Main names: `ConvFamily`.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import layers, registry
from tasks.base import Batch, Config, Params
from tasks.families.classifier import ClassifierFamily


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvFamily(ClassifierFamily):
  """Classifies images; parameters `conv_00` ..., then `logits`.

  Attributes:
    channels: Channels of each convolution.
    strides: Stride of each convolution.
    activation: Name in `tasks.layers.ACTIVATIONS`.
    norm: Name in `tasks.layers.NORMS`.
  """

  data: str = "digits"
  channels: tuple[int, ...] = (8, 16)
  strides: tuple[int, ...] = (2, 2)
  activation: str = "relu"
  norm: str = "none"

  def __post_init__(self):
    super().__post_init__()
    if len(self.channels) != len(self.strides):
      raise ValueError(
        f"channels={self.channels} and strides={self.strides} must have equal"
        " lengths: one of each per convolution."
      )

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    keys = jax.random.split(key, len(self.channels) + 1)
    sizes = (self.data_set.field_shape("image")[-1], *self.channels)
    params = {}
    for i, (num_in, num_out) in enumerate(itertools.pairwise(sizes)):
      params[f"conv_{i:02d}"] = layers.init_conv(keys[i], num_in, num_out)
      if self.norm != "none":
        params[f"conv_{i:02d}"] |= layers.init_norm(num_out)
    params["logits"] = layers.init_dense(
      keys[-1], sizes[-1], self.data_set.num_classes
    )
    return params

  def logits(
    self, params: Params, batch: Batch
  ) -> Float[Array, "batch classes"]:
    activation, norm = (
      layers.activation(self.activation),
      layers.norm(self.norm),
    )
    x = batch["image"]
    for i, stride in enumerate(self.strides):
      layer = params[f"conv_{i:02d}"]
      x = activation(norm(layer, layers.conv(layer, x, stride=stride)))
    return layers.dense(params["logits"], jnp.mean(x, axis=(1, 2)))


registry.register("conv_digits_8_16", ConvFamily)
registry.register(
  "conv_digits_12_12_24_layer_norm",
  ConvFamily,
  channels=(12, 12, 24),
  strides=(1, 2, 2),
  norm="layer",
)
registry.register(
  "conv_sprites_8_16_tanh", ConvFamily, data="sprites", activation="tanh"
)
registry.register(
  "conv_sprites_12_16_batch_norm",
  ConvFamily,
  data="sprites",
  channels=(12, 16),
  norm="batch",
)
