"""Weights measured in other units.

The optimizer sees `z = params / scale` and the task gets `scale * z`: the
function is the same, but gradients are multiplied by `scale` and useful
step sizes divided by it. With scales between 1e-3 and 1e3 this is the
single most useful augmentation known for learned optimizers (Moudgil et
al., "Celo: training versatile learned optimizers on a compute diet", 2025).

Main names: `Reparametrize`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from tasks import names
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

LEVELS = ("global", "tensor", "parameter")


@dataclasses.dataclass(frozen=True)
class Reparametrize(Augmentation):
  """Divides what the optimizer sees by log-uniform scales.

  Attributes:
    level: `"global"` for one scale, `"tensor"` for one per tensor,
      `"parameter"` for one per parameter.
    scales: Smallest and largest scale.
  """

  level: str = "tensor"
  scales: tuple[float, float] = (1e-3, 1e3)

  def __post_init__(self):
    if self.level not in LEVELS:
      raise names.unknown_name("level", self.level, LEVELS)
    check_range("scales", self.scales)

  def sample(
    self, key: PRNGKeyArray, family: TaskFamily, cfg: Config
  ) -> Config:
    if self.level == "global":
      return log_uniform(key, *self.scales)
    task = family.task_fn(cfg)
    shapes = jax.eval_shape(lambda k: task.init_with_state(k)[0], key)
    leaves, treedef = jax.tree.flatten(shapes)
    scales = [
      log_uniform(
        jax.random.fold_in(key, i),
        *self.scales,
        shape=() if self.level == "tensor" else leaf.shape,
      )
      for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(treedef, scales)

  def wrap(self, task: Task, cfg: Config) -> Task:
    return ReparametrizedTask(task, cfg, is_shared=self.level == "global")


class ReparametrizedTask(WrappedTask):
  """A task in the variables `params / scale`; final.

  Args:
    task: The task.
    scale: One scale, or a pytree like that of the parameters.
    is_shared: Whether there is one scale for all parameters.
  """

  def __init__(self, task: Task, scale: Config, *, is_shared: bool):
    super().__init__(task)
    self._scale = scale
    self._is_shared = is_shared

  def _scales(self, params: Params) -> Params:
    if self._is_shared:
      return jax.tree.map(lambda _: self._scale, params)
    return self._scale

  def init_with_state(self, key: PRNGKeyArray) -> tuple[Params, ModelState]:
    params, state = self.task.init_with_state(key)
    divided = jax.tree.map(
      lambda p, s: (p / s).astype(p.dtype), params, self._scales(params)
    )
    return divided, state

  def loss_with_state_and_aux(
    self, params: Params, state: ModelState, key: PRNGKeyArray, data: Batch
  ) -> tuple[Scalar, ModelState, Aux]:
    params = jax.tree.map(
      lambda p, s: p * jnp.asarray(s, p.dtype), params, self._scales(params)
    )
    return super().loss_with_state_and_aux(params, state, key, data)
