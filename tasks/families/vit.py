"""Image classification by vision transformers.

Square patches become tokens (A. Dosovitskiy et al., "An image is worth
16x16 words", 2021), averaged at the end (L. Beyer et al., "Better plain ViT
baselines", 2022). The Performer variant has no table of positions: FLT with
two coordinates, row and column, tells patches apart.

Main names: `ViTFamily`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import layers, registry
from tasks.base import Batch, Config, Params
from tasks.families.classifier import ClassifierFamily
from tasks.transformer import SOFTMAX, Transformer


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViTFamily(ClassifierFamily):
  """Classifies images; parameters `patches`, `blocks`, `logits`.

  With softmax attention there are `positions` too.

  Attributes:
    patch_size: Pixels along a patch; must divide the image.
    width: Channels of a token.
    num_blocks: Number of blocks.
    num_heads: Number of heads.
    attention: `"softmax"`, or an encoding of `flt_lopt.attention` that takes
      two coordinates.
  """

  data: str = "digits"
  patch_size: int = 2
  width: int = 24
  num_blocks: int = 2
  num_heads: int = 2
  attention: str = SOFTMAX

  def _blocks(self) -> Transformer:
    return Transformer(
      width=self.width,
      num_blocks=self.num_blocks,
      num_heads=self.num_heads,
      attention=self.attention,
      coord_dim=2,
    )

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    height, width, channels = self.data_set.field_shape("image")
    keys = jax.random.split(key, 4)
    pixels = self.patch_size**2 * channels
    params = {
      "patches": layers.init_dense(keys[0], pixels, self.width, scale=2.0),
      "blocks": self._blocks().init(keys[1]),
      "logits": layers.init_dense(
        keys[2], self.width, self.data_set.num_classes
      ),
    }
    if self.attention == SOFTMAX:
      count = height * width // self.patch_size**2
      params["positions"] = layers.variance_scaled(
        keys[3], (count, self.width), scale=0.1, fan_in=1
      )
    return params

  def logits(
    self, params: Params, batch: Batch
  ) -> Float[Array, "batch classes"]:
    patches = layers.to_patches(batch["image"], self.patch_size)
    x = layers.dense(params["patches"], patches)
    positions = None
    if self.attention == SOFTMAX:
      x = x + params["positions"]
    else:
      positions = grid_positions(
        batch["image"].shape[2] // self.patch_size, patches.shape[1]
      )
    x = self._blocks()(params["blocks"], x, positions)
    return layers.dense(params["logits"], jnp.mean(x, axis=1))


def grid_positions(num_columns: int, count: int) -> Float[Array, "count 2"]:
  """Returns row and column of each patch."""
  place = jnp.arange(count)
  return jnp.stack([place // num_columns, place % num_columns], -1).astype(
    jnp.float32
  )


registry.register("vit_digits_24x2", ViTFamily)
registry.register(
  "vit_digits_32x3", ViTFamily, width=32, num_blocks=3, num_heads=4
)
registry.register("vit_sprites_24x2", ViTFamily, data="sprites", patch_size=3)
registry.register("vit_flt_digits_24x2", ViTFamily, attention="flt")
registry.register(
  "vit_flt_sprites_32x2",
  ViTFamily,
  data="sprites",
  patch_size=3,
  width=32,
  attention="flt",
)
