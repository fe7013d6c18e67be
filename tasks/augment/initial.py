"""Starts that are too small or too large.

The initial weights are multiplied by one factor, and nothing else is; biases
and scales of norms, which are vectors, stay.

Main names: `ScaleInit`.
"""

import dataclasses

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.augment.base import Augmentation, check_range, log_uniform
from tasks.base import Config, ModelState, Params, Task, TaskFamily
from tasks.wrapped import WrappedTask


@dataclasses.dataclass(frozen=True)
class ScaleInit(Augmentation):
  """Multiplies initial weights by a log-uniform factor.

  Attributes:
    factors: Smallest and largest factor.
  """

  factors: tuple[float, float] = (0.25, 4.0)

  def __post_init__(self):
    check_range("factors", self.factors)

  def sample(
    self, key: PRNGKeyArray, family: TaskFamily, cfg: Config
  ) -> Config:
    del family, cfg
    return log_uniform(key, *self.factors)

  def wrap(self, task: Task, cfg: Config) -> Task:
    return ScaledInitTask(task, cfg)


class ScaledInitTask(WrappedTask):
  """A task that starts from other weights; final."""

  def __init__(self, task: Task, factor: Float[Array, ""]):
    super().__init__(task)
    self._factor = factor

  def init_with_state(self, key: PRNGKeyArray) -> tuple[Params, ModelState]:
    params, state = self.task.init_with_state(key)
    scaled = jax.tree.map(
      lambda p: (p * self._factor).astype(p.dtype) if p.ndim > 1 else p, params
    )
    return scaled, state
