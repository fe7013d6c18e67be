"""Image classification by a multilayer perceptron.

The workhorse of meta-training: 8x8 images, one hidden layer, cross-entropy,
as in "Celo: training versatile learned optimizers on a compute diet"
(Moudgil et al., 2025) and the tasks of learned_optimization (Metz et al.,
2022). The traced program is nothing but matrix products; one may meta-train
millions of steps on it per minute.

Main names: `MLPFamily`.
"""

import dataclasses
import itertools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from tasks import layers, losses, registry
from tasks.base import Batch, Config, Params, Scalar
from tasks.families.base import ZooFamily


@dataclasses.dataclass(frozen=True, kw_only=True)
class MLPFamily(ZooFamily):
  """Classifies images by an MLP; parameters `layer_00` ... of `w` and `b`.

  Weights start normal with variance `gain / fan_in`, times the square of a
  factor that is log-uniform in `init_scale` and differs between members.

  Attributes:
    hidden: Widths of the hidden layers.
    activation: Name in `tasks.layers.ACTIVATIONS`.
    init_scale: Smallest and largest factor of the initial weights.
  """

  data: str = "digits"
  batch_size: int = 64
  hidden: tuple[int, ...] = (32,)
  activation: str = "relu"
  init_scale: tuple[float, float] = (1.0, 1.0)

  not_architecture: ClassVar[frozenset[str]] = frozenset({"init_scale"})

  def __post_init__(self):
    if not self.name:
      sizes = "-".join(map(str, self.hidden))
      name = f"mlp_{self.data}_{sizes}_{self.activation}"
      object.__setattr__(self, "name", name)

  def sample(self, key: PRNGKeyArray) -> Config:
    low, high = map(math.log, self.init_scale)
    log_scale = jax.random.uniform(key, (), minval=low, maxval=high)
    return {"init_scale": jnp.exp(log_scale)}

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    num_in = math.prod(self.data_set.field_shape("image"))
    sizes = (num_in, *self.hidden, self.data_set.num_classes)
    keys = jax.random.split(key, len(sizes) - 1)
    gain = 2.0 if "relu" in self.activation else 1.0
    params = {}
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
      is_last = i == len(sizes) - 2
      layer = layers.init_dense(
        keys[i], fan_in, fan_out, scale=1.0 if is_last else gain
      )
      layer["w"] = layer["w"] * cfg["init_scale"]
      params[f"layer_{i:02d}"] = layer
    return params

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    del cfg, key
    x = batch["image"].reshape(batch["image"].shape[0], -1)
    activation = layers.activation(self.activation)
    for i in range(len(self.hidden)):
      x = activation(layers.dense(params[f"layer_{i:02d}"], x))
    logits = layers.dense(params[f"layer_{len(self.hidden):02d}"], x)
    return losses.softmax_cross_entropy(logits, batch["label"])

  def loss_ceiling(self) -> float:
    return 1.5 * math.log(self.data_set.num_classes)


registry.register("mlp_digits_32", MLPFamily)
registry.register(
  "mlp_digits_16_tanh", MLPFamily, hidden=(16,), activation="tanh"
)
registry.register("mlp_digits_48", MLPFamily, hidden=(48,))
registry.register("mlp_digits_64_64", MLPFamily, hidden=(64, 64))
