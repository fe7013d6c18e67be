"""Linear models on real tables and images.

Softmax regression (logistic regression for two classes) and linear
regression under Huber's loss ("Robust estimation of a location parameter",
1964), with an L2 penalty: convex, and badly conditioned where features
correlate.

Main names: `LinearFamily`.
"""

import dataclasses
import math

import jax.numpy as jnp
import optax
from jaxtyping import PRNGKeyArray

from tasks import layers, losses, registry
from tasks.base import Aux, Batch, Config, Params, Scalar
from tasks.families.base import ZooFamily


@dataclasses.dataclass(frozen=True, kw_only=True)
class LinearFamily(ZooFamily):
  """Classifies, or regresses where the data has a real `y`.

  Parameters are the weights `w` and the biases `b`.

  Attributes:
    field: Input field of the batch.
    is_regression: Whether the target is the real field `y`.
    l2: Weight of half the squared norm of the weights.
  """

  data: str = "wine"
  field: str = "x"
  is_regression: bool = False
  l2: float = 1e-3

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    num_in = math.prod(self.data_set.field_shape(self.field))
    num_out = 1 if self.is_regression else self.data_set.num_classes
    return layers.init_dense(key, num_in, num_out)

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    return self.batch_loss_and_aux(cfg, params, key, batch)[0]

  def batch_loss_and_aux(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> tuple[Scalar, Aux]:
    del cfg, key
    aux = {}
    x = batch[self.field]
    out = layers.dense(params, x.reshape(x.shape[0], -1)).astype(jnp.float32)
    if self.is_regression:
      loss = jnp.mean(optax.losses.huber_loss(out[:, 0], batch["y"]))
    else:
      loss = losses.softmax_cross_entropy(out, batch["label"])
      aux["accuracy"] = losses.accuracy(out, batch["label"])
    weights = params["w"].astype(jnp.float32)
    return loss + 0.5 * self.l2 * jnp.sum(weights * weights), aux

  def loss_ceiling(self) -> float:
    return 4.0


registry.register("softmax_wine", LinearFamily, data="wine")
registry.register("softmax_iris", LinearFamily, data="iris", l2=1e-2)
registry.register(
  "logistic_breast_cancer", LinearFamily, data="breast_cancer", l2=0.0
)
registry.register(
  "linear_diabetes", LinearFamily, data="diabetes", is_regression=True
)
registry.register(
  "softmax_digits", LinearFamily, data="digits", field="image", l2=1e-4
)
