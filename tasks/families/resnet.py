"""Image classification by a residual network.

Blocks `x + conv(relu(norm(conv(relu(norm(x))))))` in the order of K. He et
al., "Identity mappings in deep residual networks" (2016).

Main names: `ResNetFamily`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import layers, registry
from tasks.base import Batch, Config, Params
from tasks.families.classifier import ClassifierFamily


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetFamily(ClassifierFamily):
  """Classifies images; parameters `stem`, `block_00` ..., `logits`.

  Attributes:
    channels: Channels throughout.
    num_blocks: Number of residual blocks.
    stem_stride: Stride of the first convolution.
    norm: Name in `tasks.layers.NORMS`; `"batch"` uses the batch's moments.
    activation: Name in `tasks.layers.ACTIVATIONS`.
  """

  data: str = "digits"
  channels: int = 8
  num_blocks: int = 2
  stem_stride: int = 2
  norm: str = "layer"
  activation: str = "relu"

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    keys = jax.random.split(key, 2 * self.num_blocks + 2)
    size = self.channels
    params: dict[str, Params] = {
      "stem": layers.init_conv(
        keys[0], self.data_set.field_shape("image")[-1], size
      ),
      "logits": layers.init_dense(keys[1], size, self.data_set.num_classes)
      | layers.init_norm(size),
    }
    for i in range(self.num_blocks):
      params[f"block_{i:02d}"] = {
        f"conv_{j}": layers.init_conv(keys[2 * i + j + 2], size, size)
        | layers.init_norm(size)
        for j in range(2)
      }
    return params

  def _block(
    self, block: Params, x: Float[Array, "batch height width channels"]
  ) -> Float[Array, "batch height width channels"]:
    norm, residual = layers.norm(self.norm), x
    activation = layers.activation(self.activation)
    for j in range(2):
      layer = block[f"conv_{j}"]
      residual = layers.conv(layer, activation(norm(layer, residual)))
    return x + residual

  def logits(
    self, params: Params, batch: Batch
  ) -> Float[Array, "batch classes"]:
    x = layers.conv(params["stem"], batch["image"], stride=self.stem_stride)
    for i in range(self.num_blocks):
      x = self._block(params[f"block_{i:02d}"], x)
    x = layers.norm(self.norm)(params["logits"], x)
    x = layers.activation(self.activation)(x)
    return layers.dense(params["logits"], jnp.mean(x, axis=(1, 2)))


registry.register("resnet_digits_8x2", ResNetFamily)
registry.register(
  "resnet_digits_12x3_batch_norm",
  ResNetFamily,
  channels=12,
  num_blocks=3,
  norm="batch",
)
registry.register(
  "resnet_sprites_10x2", ResNetFamily, data="sprites", channels=10
)
