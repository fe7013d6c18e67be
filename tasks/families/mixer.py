"""Image classification by MLPs over patches, without attention.

MLP-Mixer mixes tokens by an MLP across patches (I. Tolstikhin et al., 2021).
PosMLP gates one half of the channels by the other, mixed across patches by a
matrix that depends on relative positions only (Z. Wang et al.,
"Parameterization of cross-token relations with relative positional encoding
for vision MLP", 2022): a table of relative offsets, or a quadratic form.

Main names: `MixerFamily`, `MIXERS`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import layers, names, registry
from tasks.base import Batch, Config, Params
from tasks.families.classifier import ClassifierFamily

Tokens = Float[Array, "batch patches channels"]


def _offsets(side: int) -> np.ndarray:
  """Offsets [patches, patches, 2] of rows and columns between patches."""
  place = np.stack(np.divmod(np.arange(side * side), side), -1)
  return place[:, None] - place[None, :]


def _init_mlp(key: PRNGKeyArray, side: int, channels: int) -> Params:
  keys = jax.random.split(key, 2)
  hidden = 2 * side * side
  return {
    "in": layers.init_dense(keys[0], side * side, hidden),
    "out": layers.init_dense(keys[1], hidden, side * side, scale=0.5),
  }


def _mlp(params: Params, x: Tokens) -> Tokens:
  across = jnp.swapaxes(x, 1, 2)
  hidden = jax.nn.gelu(layers.dense(params["in"], across))
  return jnp.swapaxes(layers.dense(params["out"], hidden), 1, 2)


def _init_gate(key: PRNGKeyArray, channels: int) -> Params:
  keys = jax.random.split(key, 2)
  return {
    "in": layers.init_dense(keys[0], channels, 2 * channels),
    "out": layers.init_dense(keys[1], channels, channels, scale=0.5),
    "offset": jnp.ones((1,)),
  }


def _gate(params: Params, x: Tokens, mixing: Array) -> Tokens:
  value, gate = jnp.split(jax.nn.gelu(layers.dense(params["in"], x)), 2, -1)
  mixed = jnp.einsum("pq,bqc->bpc", mixing.astype(gate.dtype), gate)
  return layers.dense(params["out"], value * (mixed + params["offset"]))


def _init_table(key: PRNGKeyArray, side: int, channels: int) -> Params:
  table = jnp.zeros(((2 * side - 1) ** 2,))
  return _init_gate(key, channels) | {"table": table}


def _table(params: Params, x: Tokens) -> Tokens:
  side = math.isqrt(x.shape[1])
  offset = _offsets(side) + side - 1
  index = offset[..., 0] * (2 * side - 1) + offset[..., 1]
  return _gate(params, x, params["table"][index])


def _init_quadratic(key: PRNGKeyArray, side: int, channels: int) -> Params:
  del side
  start = {"centre": jnp.zeros((2,)), "shape": 0.7 * jnp.eye(2)}
  return _init_gate(key, channels) | start


def _quadratic(params: Params, x: Tokens) -> Tokens:
  side = math.isqrt(x.shape[1])
  offset = _offsets(side) - params["centre"].astype(jnp.float32)
  stretched = offset @ params["shape"].astype(jnp.float32)
  logits = -0.5 * jnp.sum(stretched * stretched, axis=-1)
  return _gate(params, x, jax.nn.softmax(logits, axis=-1))


class Mixer(NamedTuple):
  """How tokens are mixed: parameters from key, side and channels; function."""

  init: Callable[[PRNGKeyArray, int, int], Params]
  apply: Callable[[Params, Tokens], Tokens]


MIXERS: Mapping[str, Mixer] = {
  "mlp": Mixer(_init_mlp, _mlp),
  "pos_table": Mixer(_init_table, _table),
  "pos_quadratic": Mixer(_init_quadratic, _quadratic),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MixerFamily(ClassifierFamily):
  """Classifies square images.

  Parameters are `patches`, `block_00` ... and `logits`.

  Attributes:
    mixer: Name in `MIXERS`.
    patch_size: Pixels along a patch; must divide the image.
    width: Channels of a token.
    num_blocks: Number of blocks.
  """

  data: str = "digits"
  mixer: str = "mlp"
  patch_size: int = 2
  width: int = 24
  num_blocks: int = 2

  def __post_init__(self):
    super().__post_init__()
    if self.mixer not in MIXERS:
      raise names.unknown_name("mixer", self.mixer, MIXERS)

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    height, _, channels = self.data_set.field_shape("image")
    keys = jax.random.split(key, 3 * self.num_blocks + 2)
    width, pixels = self.width, self.patch_size**2 * channels
    params: dict[str, Params] = {
      "patches": layers.init_dense(keys[0], pixels, width, scale=2.0),
      "logits": layers.init_dense(keys[1], width, self.data_set.num_classes)
      | layers.init_norm(width),
    }
    for i in range(self.num_blocks):
      k = keys[3 * i + 2 : 3 * i + 5]
      params[f"block_{i:02d}"] = {
        "mix": MIXERS[self.mixer].init(k[0], height // self.patch_size, width),
        "in": layers.init_dense(k[1], width, 2 * width),
        "out": layers.init_dense(k[2], 2 * width, width, scale=0.5),
        "norm_mix": layers.init_norm(width),
        "norm_mlp": layers.init_norm(width),
      }
    return params

  def logits(
    self, params: Params, batch: Batch
  ) -> Float[Array, "batch classes"]:
    patches = layers.to_patches(batch["image"], self.patch_size)
    x = layers.dense(params["patches"], patches)
    for i in range(self.num_blocks):
      block = params[f"block_{i:02d}"]
      normed = layers.layer_norm(block["norm_mix"], x)
      x = x + MIXERS[self.mixer].apply(block["mix"], normed)
      normed = layers.layer_norm(block["norm_mlp"], x)
      hidden = jax.nn.gelu(layers.dense(block["in"], normed))
      x = x + layers.dense(block["out"], hidden)
    x = layers.layer_norm(params["logits"], jnp.mean(x, axis=1))
    return layers.dense(params["logits"], x)


registry.register("mixer_digits_24x2", MixerFamily)
registry.register(
  "mixer_sprites_32x2", MixerFamily, data="sprites", patch_size=3, width=32
)
registry.register("posmlp_table_digits_24x2", MixerFamily, mixer="pos_table")
registry.register(
  "posmlp_quadratic_digits_20x3",
  MixerFamily,
  mixer="pos_quadratic",
  width=20,
  num_blocks=3,
)
