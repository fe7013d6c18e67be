"""Few-shot regression: learning an initialisation that learns fast.

Model-agnostic meta-learning on sinusoids (C. Finn, P. Abbeel and S. Levine,
"Model-agnostic meta-learning for fast adaptation of deep networks", 2017):
the loss is the error on a task's query points after a gradient step on its
support points, differentiated through that step.

Main names: `FewShotFamily`.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import layers, registry
from tasks.base import Batch, Config, Params, Scalar
from tasks.data.generated import stream_key
from tasks.families.base import ZooFamily


@dataclasses.dataclass(frozen=True, kw_only=True)
class FewShotFamily(ZooFamily):
  """Learns to fit sinusoids from a few points, by mean squared error.

  Parameters, `layer_00` ..., are the start from which each is fitted.

  Attributes:
    hidden: Widths of the hidden layers.
    num_shots: Support points, and as many query points.
    num_steps: Gradient steps on the support points.
    inner_rate: Learning rate of these steps.
  """

  data: str = "sinusoids"
  batch_size: int = 16
  hidden: tuple[int, ...] = (32, 32)
  num_shots: int = 8
  num_steps: int = 1
  inner_rate: float = 0.02

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    sizes = (1, *self.hidden, 1)
    keys = jax.random.split(key, len(sizes) - 1)
    return {
      f"layer_{i:02d}": layers.init_dense(k, a, b, scale=2.0)
      for i, (k, (a, b)) in enumerate(zip(keys, itertools.pairwise(sizes)))
    }

  def sample_batch(self, cfg: Config, key: PRNGKeyArray, split: str) -> Batch:
    del cfg
    keys = jax.random.split(stream_key(key, self.part, split), 2)
    amplitude, phase = jax.random.uniform(keys[0], (2, self.batch_size, 1, 1))
    x = jax.random.uniform(
      keys[1], (self.batch_size, 2 * self.num_shots, 1), minval=-5, maxval=5
    )
    y = (0.1 + 4.9 * amplitude) * jnp.sin(x - np.pi * phase)
    return {"x": x, "y": y}

  def _error(
    self, params: Params, x: Float[Array, "points 1"], y: Array
  ) -> Scalar:
    for i in range(len(self.hidden)):
      x = jnp.tanh(layers.dense(params[f"layer_{i:02d}"], x))
    out = layers.dense(params[f"layer_{len(self.hidden):02d}"], x)
    return jnp.mean((out.astype(jnp.float32) - y) ** 2)

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    del cfg, key
    shots = self.num_shots

    def adapted_error(x: Array, y: Array) -> Scalar:
      fast = params
      for _ in range(self.num_steps):
        slope = jax.grad(self._error)(fast, x[:shots], y[:shots])
        fast = jax.tree.map(lambda p, g: p - self.inner_rate * g, fast, slope)
      return self._error(fast, x[shots:], y[shots:])

    return jnp.mean(jax.vmap(adapted_error)(batch["x"], batch["y"]))

  def loss_ceiling(self) -> float:
    return 20.0


registry.register("few_shot_sinusoids_32x2", FewShotFamily)
registry.register(
  "few_shot_sinusoids_24x3",
  FewShotFamily,
  hidden=(24, 24, 24),
  num_steps=2,
  inner_rate=0.01,
)
