"""Quadratics of known spectrum, rotated and noisy.

`f(x) = 1/2 (x - x*)' Q diag(h) Q' (x - x*) + noise' (x - x*)`: near a
minimum every smooth problem looks like this (T. Schaul et al., "No more
pesky learning rates", 2013, study the noise). `Q` is a product of three
reflections, which couples all coordinates and costs little.

Main names: `QuadraticFamily`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import layers, registry
from tasks.augment.base import log_uniform
from tasks.base import Batch, Config, Params, Scalar
from tasks.families.base import ZooFamily


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuadraticFamily(ZooFamily):
  """Minimises a random quadratic in `x` [dimension].

  Attributes:
    dimension: Number of parameters.
    condition: Ratio of the largest to the smallest curvature; curvatures are
      log-uniform in between.
    is_rotated: Whether coordinates are coupled.
    noise: Standard deviation of the linear noise in training batches; losses
      are measured without it, so that none is negative.
  """

  data: str = "quadratic"
  dimension: int = 16
  condition: float = 100.0
  is_rotated: bool = True
  noise: float = 0.0

  def sample(self, key: PRNGKeyArray) -> Config:
    keys = jax.random.split(self.part_key(key), 3)
    reflections = layers.normal(keys[1], (3, self.dimension))
    norms = jnp.linalg.norm(reflections, axis=-1, keepdims=True)
    return {
      "curvature": log_uniform(
        keys[0], 1 / self.condition, 1.0, (self.dimension,)
      ),
      "reflections": reflections / norms,
      "optimum": jax.random.normal(keys[2], (self.dimension,)),
    }

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    return {"x": jax.random.normal(key, (self.dimension,))}

  def sample_batch(
    self, cfg: Config, key: PRNGKeyArray, split: str
  ) -> dict[str, Float[Array, "dimension"]]:
    del cfg
    level = self.noise if split == "train" else 0.0
    return {"noise": level * jax.random.normal(key, (self.dimension,))}

  def measured_split(self, split: str) -> str:
    return "valid" if self.noise and split == "train" else split

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    del key
    offset = params["x"].astype(jnp.float32) - cfg["optimum"]
    along = offset
    if self.is_rotated:
      for i in range(3):
        mirror = cfg["reflections"][i]
        along = along - 2 * jnp.sum(mirror * along) * mirror
    value = 0.5 * jnp.sum(cfg["curvature"] * along * along)
    return value + jnp.sum(batch["noise"] * offset)

  def loss_ceiling(self) -> float:
    return 10.0 * self.dimension


registry.register("quadratic_16", QuadraticFamily)
registry.register(
  "quadratic_64_ill", QuadraticFamily, dimension=64, condition=1e5
)
registry.register(
  "quadratic_32_axes", QuadraticFamily, dimension=32, is_rotated=False
)
registry.register(
  "quadratic_24_noisy", QuadraticFamily, dimension=24, noise=0.3
)
