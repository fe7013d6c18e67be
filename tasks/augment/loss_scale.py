"""Losses multiplied by a constant.

A sound optimizer does not care in which units a loss is measured. The
normaliser divides the factor out again, so that the meta-objective does not
see it.

Main names: `ScaleLoss`.
"""

import dataclasses

from jaxtyping import Array, Float, PRNGKeyArray

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


@dataclasses.dataclass(frozen=True)
class ScaleLoss(Augmentation):
  """Multiplies the loss by a log-uniform factor.

  Attributes:
    scales: Smallest and largest factor.
  """

  scales: tuple[float, float] = (1e-3, 1e3)

  def __post_init__(self):
    check_range("scales", self.scales)

  def sample(
    self, key: PRNGKeyArray, family: TaskFamily, cfg: Config
  ) -> Config:
    del family, cfg
    return log_uniform(key, *self.scales)

  def wrap(self, task: Task, cfg: Config) -> Task:
    return ScaledLossTask(task, cfg)


class ScaledLossTask(WrappedTask):
  """A task with its loss multiplied by `scale`; final."""

  def __init__(self, task: Task, scale: Float[Array, ""]):
    super().__init__(task)
    self._scale = scale

  def loss_with_state_and_aux(
    self, params: Params, state: ModelState, key: PRNGKeyArray, data: Batch
  ) -> tuple[Scalar, ModelState, Aux]:
    loss, state, aux = super().loss_with_state_and_aux(params, state, key, data)
    return self._scale * loss, state, aux

  def normalizer(self, loss: Float[Array, "..."]) -> Float[Array, "..."]:
    return self.task.normalizer(loss / self._scale)
