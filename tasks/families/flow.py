"""Normalising flows: exact likelihood of images.

Affine couplings in alternation (L. Dinh, J. Sohl-Dickstein and S. Bengio,
"Density estimation using real NVP", 2017) on dequantised pixels. The loss
is the negative log-likelihood in nats per dimension, of a density in units of
the noise: the bound on that of the grey levels (L. Theis, A. van den Oord and
M. Bethge, "A note on the evaluation of generative models", 2016). Pixels that
are uniform within the noise have no density above 1, so that none is negative
but by the chance of a batch.

Main names: `FlowFamily`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from tasks import layers, registry
from tasks.base import Batch, Config, Params, Scalar
from tasks.families.base import ZooFamily


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlowFamily(ZooFamily):
  """Maps images to normal noise; parameters `coupling_00` ....

  Attributes:
    num_couplings: Number of couplings.
    hidden: Width of each coupling's network.
    noise: Width of the uniform noise on pixels, the step between grey
      levels.
  """

  revision = 1  # The density was one of pixels before, and had no bound.

  data: str = "digits"
  num_couplings: int = 4
  hidden: int = 48
  noise: float = 1 / 16

  def _size(self) -> int:
    return math.prod(self.data_set.field_shape("image"))

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    size = self._size()
    half = size // 2
    params = {}
    for i in range(self.num_couplings):
      key, key_in, key_out = jax.random.split(key, 3)
      params[f"coupling_{i:02d}"] = {
        "in": layers.init_dense(key_in, half, self.hidden, scale=2.0),
        # Almost nothing is changed at first.
        "out": layers.init_dense(
          key_out, self.hidden, 2 * (size - half), scale=1e-2
        ),
      }
    return params

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    del cfg
    pixels = batch["image"].reshape(batch["image"].shape[0], -1)
    size = pixels.shape[-1]
    half = size // 2
    noise = layers.uniform(key, pixels.shape)
    x = 2 * (pixels + self.noise * noise) / (1 + self.noise) - 1
    log_volume = jnp.zeros(x.shape[:1])
    for i in range(self.num_couplings):
      layer = params[f"coupling_{i:02d}"]
      # Reversal swaps the halves, so that each is changed in turn.
      x = x[:, ::-1]
      kept, changed = x[:, :half], x[:, half:]
      hidden = jax.nn.relu(layers.dense(layer["in"], kept))
      out = layers.dense(layer["out"], hidden).astype(jnp.float32)
      shift, log_scale = jnp.split(out, 2, axis=-1)
      log_scale = 3 * jnp.tanh(log_scale / 3)
      changed = changed * jnp.exp(log_scale) + shift
      x = jnp.concatenate([kept, changed], axis=-1)
      log_volume = log_volume + jnp.sum(log_scale, axis=-1)
    normal = 0.5 * jnp.sum(x * x + math.log(2 * math.pi), axis=-1)
    return jnp.mean(normal - log_volume) / size - self._log_width()

  def _log_width(self) -> float:
    """Log of the noise's width where images are from -1 to 1."""
    return math.log(2 * self.noise / (1 + self.noise))

  def loss_ceiling(self) -> float:
    return 5.0 - self._log_width()


registry.register("flow_digits_48x4", FlowFamily)
registry.register(
  "flow_photographs4_32x6",
  FlowFamily,
  data="photographs@4",
  num_couplings=6,
  hidden=32,
  noise=1 / 64,
)
