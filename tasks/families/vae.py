"""Variational autoencoders of images.

The negative evidence lower bound, in nats per pixel, with one sample of the
posterior (D. Kingma and M. Welling, "Auto-encoding variational Bayes",
2014).

Main names: `VAEFamily`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from tasks import layers, losses, registry
from tasks.base import Batch, Config, Params, Scalar
from tasks.families.base import ZooFamily


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAEFamily(ZooFamily):
  """Models images by a latent normal variable.

  Parameters are `encoder`, `posterior` (mean and log-variance), `decoder`
  and `likelihood`.

  Attributes:
    hidden: Width of the hidden layer on both sides.
    latent: Latent dimensions.
    beta: Weight of the divergence from the prior.
    activation: Name in `tasks.layers.ACTIVATIONS`.
  """

  data: str = "digits"
  hidden: int = 48
  latent: int = 8
  beta: float = 1.0
  activation: str = "relu"

  @property
  def widths(self) -> tuple[str, ...]:
    return ("hidden", "latent")

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    num_pixels = math.prod(self.data_set.field_shape("image"))
    keys = jax.random.split(key, 4)
    return {
      "encoder": layers.init_dense(keys[0], num_pixels, self.hidden, scale=2.0),
      "posterior": layers.init_dense(keys[1], self.hidden, 2 * self.latent),
      "decoder": layers.init_dense(keys[2], self.latent, self.hidden),
      "likelihood": layers.init_dense(keys[3], self.hidden, num_pixels),
    }

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    del cfg
    activation = layers.activation(self.activation)
    target = batch["image"].reshape(batch["image"].shape[0], -1)
    hidden = activation(layers.dense(params["encoder"], target))
    posterior = layers.dense(params["posterior"], hidden).astype(jnp.float32)
    mean, log_variance = jnp.split(posterior, 2, axis=-1)
    # A wild step of the optimizer shall cost much, but not overflow.
    log_variance = 10 * jnp.tanh(log_variance / 10)
    noise = layers.normal(key, mean.shape)
    z = mean + jnp.exp(0.5 * log_variance) * noise
    out = layers.dense(
      params["likelihood"], activation(layers.dense(params["decoder"], z))
    )
    surprise = jnp.sum(losses.sigmoid_cross_entropy(out, target), axis=-1)
    divergence = 0.5 * jnp.sum(
      mean**2 + jnp.exp(log_variance) - 1 - log_variance, axis=-1
    )
    return jnp.mean(surprise + self.beta * divergence) / target.shape[-1]

  def loss_ceiling(self) -> float:
    return 2.0


registry.register("vae_digits_48_8", VAEFamily)
registry.register(
  "vae_digits_64_4_beta", VAEFamily, hidden=64, latent=4, beta=4.0
)
registry.register(
  "vae_sprites8_32_6_tanh",
  VAEFamily,
  data="sprites@8",
  hidden=32,
  latent=6,
  activation="tanh",
)
