"""Neural fields: a network that is a photograph.

From coordinates to colour, fitted pixel by pixel, with sine activations (V.
Sitzmann et al., "Implicit neural representations with periodic activation
functions", 2020) or random Fourier features (M. Tancik et al., "Fourier
features let networks learn high frequency functions", 2020). Each member
of the family fits another crop. One pixel in eight is kept for validation.

Main names: `NeuralFieldFamily`.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from tasks import layers, losses, names, registry
from tasks.base import SPLITS, Batch, Config, Params, Scalar
from tasks.data.base import part_range, random_rows
from tasks.data.photographs import PHOTOGRAPHS, photograph
from tasks.families.base import ZooFamily

_FIRST_FREQUENCY = 15.0  # SIREN's omega_0, for crops of this size.
_NUM_FEATURES = 32
ENCODINGS = ("sine", "fourier")


def _pixel_splits(size: int) -> dict[str, np.ndarray]:
  """Pixels of each split: a fixed scattered eighth each to valid and test."""
  order = np.random.RandomState(7).permutation(size * size)
  eighth = size * size // 8
  pieces = np.split(order, [6 * eighth, 7 * eighth])
  return dict(zip(SPLITS, pieces))


@dataclasses.dataclass(frozen=True, kw_only=True)
class NeuralFieldFamily(ZooFamily):
  """Fits a crop of a photograph; parameters `layer_00` ....

  Attributes:
    encoding: `"sine"` or `"fourier"`.
    crop: Pixels along the crop.
    hidden: Widths of the hidden layers.
    bandwidth: Standard deviation of the Fourier features' frequencies.
  """

  data: str = "photographs"
  batch_size: int = 128
  encoding: str = "sine"
  crop: int = 32
  hidden: tuple[int, ...] = (32, 32)
  bandwidth: float = 2.0

  def __post_init__(self):
    super().__post_init__()
    if self.encoding not in ENCODINGS:
      raise names.unknown_name("encoding", self.encoding, ENCODINGS)

  def sample(self, key: PRNGKeyArray) -> Config:
    strip = slice(*part_range(640, self.part))
    photographs = np.stack([photograph(name)[:, strip] for name in PHOTOGRAPHS])
    keys = jax.random.split(key, 4)
    which = jax.random.randint(keys[0], (), 0, len(PHOTOGRAPHS))
    limits = np.asarray(photographs.shape[1:3]) - self.crop
    corner = jax.random.randint(keys[1], (2,), 0, jnp.asarray(limits))
    pixels = jax.lax.dynamic_slice(
      jnp.asarray(photographs),
      (which, corner[0], corner[1], 0),
      (1, self.crop, self.crop, 3),
    )
    normal = layers.normal(keys[2], (2, _NUM_FEATURES))
    return {
      "pixels": pixels.reshape(-1, 3).astype(jnp.float32) / 127.5 - 1,
      "frequencies": self.bandwidth * normal,
    }

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    is_sine = self.encoding == "sine"
    sizes = (2 if is_sine else 2 * _NUM_FEATURES, *self.hidden, 3)
    params = {}
    for i, (num_in, num_out) in enumerate(itertools.pairwise(sizes)):
      key, layer_key = jax.random.split(key)
      layer = layers.init_dense(layer_key, num_in, num_out, scale=2.0)
      if is_sine:
        # Uniform of variance 2 / fan_in keeps pre-activations normal; the
        # first layer spans several periods.
        limit = _FIRST_FREQUENCY / 2 if i == 0 else (6 / num_in) ** 0.5
        layer["w"] = jax.random.uniform(
          layer_key, (num_in, num_out), minval=-limit, maxval=limit
        )
      params[f"layer_{i:02d}"] = layer
    return params

  def sample_batch(self, cfg: Config, key: PRNGKeyArray, split: str) -> Batch:
    place = jnp.asarray(_pixel_splits(self.crop)[split])
    place = place[random_rows(key, len(place), self.batch_size)]
    row, column = jnp.divmod(place, self.crop)
    where = jnp.stack([row, column], axis=-1).astype(jnp.float32)
    return {
      "position": where * (2 / (self.crop - 1)) - 1,
      "colour": cfg["pixels"][place],
    }

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    del key
    x, activation = batch["position"], jnp.sin
    if self.encoding == "fourier":
      x, activation = _features(x @ cfg["frequencies"]), jax.nn.relu
    for i in range(len(self.hidden)):
      x = activation(layers.dense(params[f"layer_{i:02d}"], x))
    out = layers.dense(params[f"layer_{len(self.hidden):02d}"], x)
    return losses.mean_squared_error(out, batch["colour"])

  def loss_ceiling(self) -> float:
    return 4.0


def _features(turns: Array) -> Array:
  angle = 2 * jnp.pi * turns
  return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], axis=-1)


registry.register("siren_photographs_32x2", NeuralFieldFamily)
registry.register(
  "siren_photographs_48x3", NeuralFieldFamily, hidden=(48, 48, 48), crop=48
)
registry.register(
  "fourier_field_photographs_32x2", NeuralFieldFamily, encoding="fourier"
)
