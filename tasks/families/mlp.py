"""Classification by a multilayer perceptron.

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
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import layers, registry
from tasks.base import Batch, Config, Params
from tasks.families.classifier import ClassifierFamily


@dataclasses.dataclass(frozen=True, kw_only=True)
class MLPFamily(ClassifierFamily):
  """Classifies images or vectors by an MLP; parameters `layer_00` ....

  Weights start normal with variance `gain / fan_in`, times the square of a
  factor that is log-uniform in `init_scale` and differs between members.

  Attributes:
    field: Input field of the batch, `"image"` or `"x"`.
    hidden: Widths of the hidden layers.
    activation: Name in `tasks.layers.ACTIVATIONS`.
    norm: Name in `tasks.layers.NORMS`, applied before activations.
    init_scale: Smallest and largest factor of the initial weights.
  """

  data: str = "digits"
  batch_size: int = 64
  field: str = "image"
  hidden: tuple[int, ...] = (32,)
  activation: str = "relu"
  norm: str = "none"
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
    num_in = math.prod(self.data_set.field_shape(self.field))
    sizes = (num_in, *self.hidden, self.data_set.num_classes)
    keys = jax.random.split(key, len(sizes) - 1)
    gain = 2.0 if "relu" in self.activation else 1.0
    params = {}
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
      is_last = i == len(self.hidden)
      layer = layers.init_dense(
        keys[i], fan_in, fan_out, scale=1.0 if is_last else gain
      )
      layer["w"] = layer["w"] * cfg["init_scale"]
      if self.norm != "none" and not is_last:
        layer |= layers.init_norm(fan_out)
      params[f"layer_{i:02d}"] = layer
    return params

  def logits(
    self, params: Params, batch: Batch
  ) -> Float[Array, "batch classes"]:
    x = batch[self.field]
    x = x.reshape(x.shape[0], -1)
    activation, norm = (
      layers.activation(self.activation),
      layers.norm(self.norm),
    )
    for i in range(len(self.hidden)):
      layer = params[f"layer_{i:02d}"]
      x = activation(norm(layer, layers.dense(layer, x)))
    return layers.dense(params[f"layer_{len(self.hidden):02d}"], x)


def _register(name: str, data: str, *hidden: int, **options) -> None:
  registry.register(name, MLPFamily, data=data, hidden=hidden, **options)


_register("mlp_digits_32", "digits", 32)
_register("mlp_digits_16_tanh", "digits", 16, activation="tanh")
_register("mlp_digits_48", "digits", 48)
_register("mlp_digits_64_64", "digits", 64, 64)
_register("mlp_digits_128_128_tanh", "digits", 128, 128, activation="tanh")
_register("mlp_digits_32x4", "digits", 32, 32, 32, 32)
_register("mlp_digits_64x4", "digits", 64, 64, 64, 64)
_register("mlp_digits_256", "digits", 256)
_register("mlp_digits_40x6_layer_norm", "digits", *(40,) * 6, norm="layer")
_register("mlp_digits_32_32_batch_norm", "digits", 32, 32, norm="batch")
_register("mlp_digits4_20_gelu", "digits@4", 20, activation="gelu")
_register("mlp_signals_32", "signals", 32)
_register("mlp_signals_50_50_silu", "signals", 50, 50, activation="silu")
_register("mlp_sprites8_32", "sprites@8", 32)
_register("mlp_sprites8_48_48_tanh", "sprites@8", 48, 48, activation="tanh")
_register("mlp_tones_56_56", "tones", 56, 56)
_register("mlp_teacher_32", "teacher", 32, field="x")
_register(
  "mlp_teacher_24_24_elu", "teacher", 24, 24, field="x", activation="elu"
)
