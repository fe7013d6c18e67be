"""Autoencoders of images, with an MLP on both sides of a bottleneck.

The deep autoencoder of G. Hinton and R. Salakhutdinov, "Reducing the
dimensionality of data with neural networks" (2006), is a classic of
second-order optimisation (J. Martens, "Deep learning via Hessian-free
optimization", 2010): narrow, badly scaled, and hard for first-order rules.

Main names: `AutoencoderFamily`.
"""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from tasks import layers, losses, registry
from tasks.base import Batch, Config, Params, Scalar
from tasks.families.base import ZooFamily


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderFamily(ZooFamily):
  """Reconstructs images; parameters `layer_00` ....

  Attributes:
    hidden: Widths of the hidden layers, the bottleneck among them.
    activation: Name in `tasks.layers.ACTIVATIONS`.
    is_bernoulli: Whether pixels are probabilities under cross-entropy;
      otherwise the loss is the mean squared error.
  """

  data: str = "digits"
  hidden: tuple[int, ...] = (32,)
  activation: str = "relu"
  is_bernoulli: bool = False

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    num_pixels = math.prod(self.data_set.field_shape("image"))
    sizes = (num_pixels, *self.hidden, num_pixels)
    keys = jax.random.split(key, len(sizes))
    gain = 2.0 if "relu" in self.activation else 1.0
    return {
      f"layer_{i:02d}": layers.init_dense(k, a, b, scale=gain)
      for i, ((a, b), k) in enumerate(zip(itertools.pairwise(sizes), keys))
    }

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    del cfg, key
    target = batch["image"].reshape(batch["image"].shape[0], -1)
    activation = layers.activation(self.activation)
    x = target
    for i in range(len(self.hidden)):
      x = activation(layers.dense(params[f"layer_{i:02d}"], x))
    out = layers.dense(params[f"layer_{len(self.hidden):02d}"], x)
    if self.is_bernoulli:
      return jnp.mean(losses.sigmoid_cross_entropy(out, target))
    return losses.mean_squared_error(out, target)

  def loss_ceiling(self) -> float:
    return 2.0


def _register(name: str, data: str, *hidden: int, **options) -> None:
  registry.register(
    name, AutoencoderFamily, data=data, hidden=hidden, **options
  )


_register("autoencoder_digits_16", "digits", 16)
_register(
  "autoencoder_digits_32_8_32_tanh", "digits", 32, 8, 32, activation="tanh"
)
_register(
  "autoencoder_digits_48_24_6_24_48_bernoulli",
  "digits",
  48,
  24,
  6,
  24,
  48,
  activation="elu",
  is_bernoulli=True,
)
_register("autoencoder_photographs8_40", "photographs@8", 40)
_register(
  "autoencoder_photographs8_64_16_64_gelu",
  "photographs@8",
  64,
  16,
  64,
  activation="gelu",
)
_register("autoencoder_sprites8_24", "sprites@8", 24)
_register(
  "autoencoder_patches8_96_24_96_silu",
  "photographs_patch8",
  96,
  24,
  96,
  activation="silu",
)
