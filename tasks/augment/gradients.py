"""Gradients that are rounded or noisy, with the loss left as it is.

The parameters pass through an identity whose backward pass changes the
cotangent, so any code that differentiates the loss sees the changed
gradient.

Main names: `CastGradient`, `NoisyGradient`.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import layers, names
from tasks.augment.base import (
  Augmentation,
  check_range,
  log_uniform,
)
from tasks.base import (
  Aux,
  Batch,
  Config,
  ModelState,
  Params,
  Scalar,
  Task,
  TaskFamily,
)
from tasks.wrapped import WrappedTask

GradientFn = Callable[[Params, PRNGKeyArray], Params]
DTYPES = ("bfloat16", "float16")


def change_gradient(
  fn: GradientFn, params: Params, key: PRNGKeyArray
) -> Params:
  """Returns `params`, whose gradient will be `fn(gradient, key)`."""

  @jax.custom_vjp
  def identity(params, key_data):
    del key_data
    return params

  def forward(params, key_data):
    return params, key_data

  def backward(key_data, gradient):
    key = jax.random.wrap_key_data(key_data)
    nothing = np.zeros(key_data.shape, jax.dtypes.float0)
    return fn(gradient, key), nothing

  identity.defvjp(forward, backward)
  is_typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
  return identity(params, jax.random.key_data(key) if is_typed else key)


class ChangedGradientTask(WrappedTask):
  """A task with changed gradients; final."""

  def __init__(self, task: Task, fn: GradientFn):
    super().__init__(task)
    self._fn = fn

  def loss_with_state_and_aux(
    self, params: Params, state: ModelState, key: PRNGKeyArray, data: Batch
  ) -> tuple[Scalar, ModelState, Aux]:
    params = change_gradient(self._fn, params, jax.random.fold_in(key, 3))
    return super().loss_with_state_and_aux(params, state, key, data)


@dataclasses.dataclass(frozen=True)
class CastGradient(Augmentation):
  """Rounds gradients to a short floating-point type and back.

  Attributes:
    dtype: `"bfloat16"` or `"float16"`, whose small gradients vanish.
  """

  dtype: str = "bfloat16"

  def __post_init__(self):
    if self.dtype not in DTYPES:
      raise names.unknown_name("gradient dtype", self.dtype, DTYPES)

  def wrap(self, task: Task, cfg: Config) -> Task:
    del cfg

    def cast(gradient: Params, key: PRNGKeyArray) -> Params:
      del key
      return jax.tree.map(
        lambda g: g.astype(self.dtype).astype(g.dtype), gradient
      )

    return ChangedGradientTask(task, cast)


@dataclasses.dataclass(frozen=True)
class NoisyGradient(Augmentation):
  """Adds normal noise in proportion to each tensor's gradient.

  Attributes:
    levels: Smallest and largest standard deviation of the noise, as a
      fraction of the root mean square of the tensor's gradient;
      log-uniform.
  """

  levels: tuple[float, float] = (0.01, 3.0)

  def __post_init__(self):
    check_range("levels", self.levels)

  def sample(
    self, key: PRNGKeyArray, family: TaskFamily, cfg: Config
  ) -> Config:
    del family, cfg
    return log_uniform(key, *self.levels)

  def wrap(self, task: Task, cfg: Config) -> Task:
    def add_noise(gradient: Params, key: PRNGKeyArray) -> Params:
      leaves, treedef = jax.tree.flatten(gradient)
      keys = jax.random.split(key, len(leaves))
      return jax.tree.unflatten(
        treedef, [_noisy(g, k, cfg) for g, k in zip(leaves, keys)]
      )

    return ChangedGradientTask(task, add_noise)


def _noisy(
  gradient: Float[Array, "..."], key: PRNGKeyArray, level: Float[Array, ""]
) -> Float[Array, "..."]:
  scale = level * jnp.sqrt(jnp.mean(gradient.astype(jnp.float32) ** 2))
  noise = scale * layers.normal(key, gradient.shape)
  return gradient + noise.astype(gradient.dtype)
