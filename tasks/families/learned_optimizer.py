"""Training a learned optimizer, as a task for an optimizer.

The parameters are those of a small network that is applied to every
parameter of an inner problem and sees its gradient, two momenta and a
second moment, all normalised (L. Metz et al., "Tasks, stability,
architecture, and compute", 2020); the loss is the mean loss of the inner
problem over a short unroll, differentiated through it (M. Andrychowicz et
al., "Learning to learn by gradient descent by gradient descent", 2016).

Main names: `LearnedOptimizerFamily`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import layers, losses, registry
from tasks.base import Batch, Config, Params, Scalar
from tasks.families.base import ZooFamily

_DECAYS = (0.5, 0.9)
_NUM_FEATURES = len(_DECAYS) + 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearnedOptimizerFamily(ZooFamily):
  """Meta-trains an optimizer on softmax regression; its mean loss counts.

  Parameters are the layers `in` and `out` of a network per parameter.

  Attributes:
    hidden: Hidden units of the network per parameter.
    unroll: Inner steps.
    num_problems: Inner problems per batch; they differ in their start and
      batches.
    step_size: Factor of the network's output.
  """

  data: str = "digits@4"
  batch_size: int = 16
  hidden: int = 8
  unroll: int = 12
  num_problems: int = 4
  step_size: float = 0.1

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    keys = jax.random.split(key, 2)
    return {
      "in": layers.init_dense(keys[0], _NUM_FEATURES, self.hidden, scale=2.0),
      "out": layers.init_dense(keys[1], self.hidden, 1, scale=0.1),
    }

  def sample_batch(self, cfg: Config, key: PRNGKeyArray, split: str) -> Batch:
    del cfg
    examples = self.data_set.sample(
      key, split, self.num_problems * self.unroll * self.batch_size
    )
    shape = (self.num_problems, self.unroll, self.batch_size)
    start_key = jax.random.fold_in(key, 5)
    num_in = math.prod(self.data_set.field_shape("image"))
    start = layers.variance_scaled(
      start_key,
      (self.num_problems, num_in, self.data_set.num_classes),
      fan_in=num_in,
    )
    return {
      "image": examples["image"].reshape(*shape, num_in),
      "label": examples["label"].reshape(shape),
      "start": start,
    }

  def _update(
    self, params: Params, moments: tuple[Array, ...], gradient: Array
  ) -> Float[Array, "inputs classes"]:
    *momenta, second = moments
    scale = jax.lax.rsqrt(second + 1e-8)
    features = jnp.stack(
      [
        gradient * scale,
        *(m * scale for m in momenta),
        jnp.tanh(jnp.log(second + 1e-8) / 10),
      ],
      axis=-1,
    )
    hidden = jax.nn.relu(layers.dense(params["in"], features))
    out = layers.dense(params["out"], hidden)[..., 0]
    return -self.step_size * out.astype(jnp.float32)

  def _unroll(
    self, params: Params, image: Array, label: Array, start: Array
  ) -> Scalar:
    def inner_loss(weights: Array, image: Array, label: Array) -> Scalar:
      return losses.softmax_cross_entropy(image @ weights, label)

    def step(carry, now):
      weights, moments = carry
      loss, gradient = jax.value_and_grad(inner_loss)(weights, *now)
      momenta = [d * m + (1 - d) * gradient for d, m in zip(_DECAYS, moments)]
      second = 0.9 * moments[-1] + 0.1 * gradient**2
      moments = (*momenta, second)
      weights = weights + self._update(params, moments, gradient)
      return (weights, moments), loss

    zeros = (jnp.zeros_like(start),) * (len(_DECAYS) + 1)
    _, inner = jax.lax.scan(step, (start, zeros), (image, label))
    return jnp.mean(inner)

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    del cfg, key
    unroll = jax.vmap(self._unroll, in_axes=(None, 0, 0, 0))
    return jnp.mean(
      unroll(params, batch["image"], batch["label"], batch["start"])
    )

  def loss_ceiling(self) -> float:
    return 10.0


registry.register("learned_optimizer_digits4", LearnedOptimizerFamily)
registry.register(
  "learned_optimizer_digits4_16", LearnedOptimizerFamily, hidden=16, unroll=20
)
