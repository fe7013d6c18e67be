"""Low-rank matrix completion, as in recommender systems.

Half of the entries of `U V' + noise` are observed; batches are rows. (Y.
Koren, R. Bell and C. Volinsky, "Matrix factorization techniques for
recommender systems", 2009; for gradient descent from a small start, S.
Gunasekar et al., "Implicit regularization in matrix factorization", 2017.)

Main names: `MatrixFactorizationFamily`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from tasks import layers, registry
from tasks.base import Batch, Config, Params, Scalar
from tasks.data.base import random_rows
from tasks.families.base import ZooFamily


@dataclasses.dataclass(frozen=True, kw_only=True)
class MatrixFactorizationFamily(ZooFamily):
  """Completes a matrix by factors `left` [rows, rank] and `right`.

  Attributes:
    num_rows: Rows of the matrix.
    num_columns: Columns of the matrix.
    true_rank: Rank of the matrix.
    rank: Rank of the model.
    depth: Number of factors: 2, or more for a deep linear model whose extra
      square factors `middle_0` ... lie between the two (S. Arora et al.,
      "Implicit regularization in deep matrix factorization", 2019).
    init: Standard deviation of the initial factors times sqrt(rank).
  """

  data: str = "low_rank"
  batch_size: int = 16
  num_rows: int = 32
  num_columns: int = 24
  true_rank: int = 3
  rank: int = 6
  depth: int = 2
  init: float = 0.3

  @property
  def widths(self) -> tuple[str, ...]:
    return ("num_rows", "num_columns", "rank")

  def sample(self, key: PRNGKeyArray) -> Config:
    keys = jax.random.split(self.part_key(key), 4)
    shape = (self.num_rows, self.num_columns)
    left = layers.normal(keys[0], (self.num_rows, self.true_rank))
    right = layers.normal(keys[1], (self.num_columns, self.true_rank))
    noise = 0.1 * layers.normal(keys[2], shape)
    return {
      "matrix": left @ right.T / self.true_rank**0.5 + noise,
      "is_observed": jax.random.bernoulli(keys[3], 0.5, shape),
    }

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    keys = jax.random.split(key, self.depth)
    scale = self.init / self.rank**0.5
    normal = lambda k, *shape: scale * layers.normal(k, shape)  # noqa: E731
    params = {
      "left": normal(keys[0], self.num_rows, self.rank),
      "right": normal(keys[1], self.num_columns, self.rank),
    }
    for i in range(self.depth - 2):
      middle = normal(keys[i + 2], self.rank, self.rank)
      params[f"middle_{i}"] = jnp.eye(self.rank) + middle
    return params

  def sample_batch(self, cfg: Config, key: PRNGKeyArray, split: str) -> Batch:
    rows = random_rows(key, self.num_rows, self.batch_size)
    observed = cfg["is_observed"][rows]
    return {
      "row": rows,
      "entries": cfg["matrix"][rows],
      "weight": observed if split == "train" else ~observed,
    }

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    del cfg, key
    left = params["left"][batch["row"]]
    for i in range(self.depth - 2):
      left = left @ params[f"middle_{i}"]
    prediction = (left @ params["right"].T).astype(jnp.float32)
    weight = batch["weight"].astype(jnp.float32)
    squares = weight * (prediction - batch["entries"]) ** 2
    return jnp.sum(squares) / jnp.maximum(jnp.sum(weight), 1)


registry.register("matrix_completion_32", MatrixFactorizationFamily)
registry.register(
  "matrix_completion_48_deep",
  MatrixFactorizationFamily,
  num_rows=48,
  num_columns=40,
  rank=8,
  depth=4,
)
