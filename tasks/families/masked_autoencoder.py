"""Masked autoencoders on image patches.

Most patches are replaced by a learned token, and a small transformer
restores their pixels; the loss counts hidden patches only (K. He et al.,
"Masked autoencoders are scalable vision learners", 2022, with mask tokens
in the encoder as in H. Bao et al., "BEiT", 2022).

Main names: `MaskedAutoencoderFamily`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from tasks import layers, registry
from tasks.base import Batch, Config, Params, Scalar
from tasks.families.base import ZooFamily
from tasks.transformer import Transformer


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskedAutoencoderFamily(ZooFamily):
  """Restores hidden patches.

  Parameters are `patches`, `positions`, `mask`, `blocks` and `pixels`.

  Attributes:
    patch_size: Pixels along a patch; must divide the image.
    hidden_fraction: Probability that a patch is hidden.
    width: Channels of a token.
    num_blocks: Number of blocks.
    num_heads: Number of heads.
  """

  data: str = "photographs@8"
  batch_size: int = 16
  patch_size: int = 2
  hidden_fraction: float = 0.6
  width: int = 32
  num_blocks: int = 2
  num_heads: int = 2

  def _blocks(self) -> Transformer:
    return Transformer(
      width=self.width, num_blocks=self.num_blocks, num_heads=self.num_heads
    )

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    height, width, channels = self.data_set.field_shape("image")
    pixels = self.patch_size**2 * channels
    count = height * width // self.patch_size**2
    keys = jax.random.split(key, 4)
    return {
      "patches": layers.init_dense(keys[0], pixels, self.width, scale=2.0),
      "positions": layers.variance_scaled(
        keys[1], (count, self.width), scale=0.1, fan_in=1
      ),
      "mask": jnp.zeros((self.width,)),
      "blocks": self._blocks().init(keys[2]),
      "pixels": layers.init_dense(keys[3], self.width, pixels),
    }

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    del cfg
    patches = layers.to_patches(batch["image"], self.patch_size)
    is_hidden = jax.random.bernoulli(
      key, self.hidden_fraction, (*patches.shape[:2], 1)
    )
    x = layers.dense(params["patches"], patches)
    x = jnp.where(is_hidden, params["mask"], x) + params["positions"]
    x = self._blocks()(params["blocks"], x)
    restored = layers.dense(params["pixels"], x).astype(jnp.float32)
    squares = jnp.where(is_hidden, (restored - patches) ** 2, 0)
    count = jnp.maximum(jnp.sum(is_hidden), 1) * patches.shape[-1]
    return jnp.sum(squares) / count

  def loss_ceiling(self) -> float:
    return 2.0


registry.register("masked_autoencoder_photographs8", MaskedAutoencoderFamily)
registry.register(
  "masked_autoencoder_digits",
  MaskedAutoencoderFamily,
  data="digits",
  width=24,
  num_blocks=1,
)
registry.register(
  "masked_autoencoder_patches32",
  MaskedAutoencoderFamily,
  data="photographs_patch32",
  patch_size=4,
  width=40,
)
