"""A task around another, which passes everything on.

Main names: `WrappedTask`.
"""

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.base import (
  Aux,
  Batch,
  ModelState,
  Params,
  Scalar,
  Task,
  is_empty,
)


class WrappedTask(Task):
  """A task that passes everything on to another; abstract in spirit.

  Subclasses override `init_with_state`, `loss_with_state_and_aux`,
  `sample_batch` or `normalizer`; the other methods follow from these.
  """

  def __init__(self, task: Task):
    self.task = task
    self.datasets = task.datasets
    self.architecture = getattr(task, "architecture", "")
    self.data_ids = getattr(task, "data_ids", frozenset())

  @property
  def name(self) -> str:
    return self.task.name

  def init(self, key: PRNGKeyArray) -> Params:
    return self.init_with_state(key)[0]

  def init_with_state(self, key: PRNGKeyArray) -> tuple[Params, ModelState]:
    return self.task.init_with_state(key)

  def loss(self, params: Params, key: PRNGKeyArray, data: Batch) -> Scalar:
    return self.loss_with_state_and_aux(params, None, key, data)[0]

  def loss_with_state(
    self, params: Params, state: ModelState, key: PRNGKeyArray, data: Batch
  ) -> tuple[Scalar, ModelState]:
    return self.loss_with_state_and_aux(params, state, key, data)[:2]

  def loss_and_aux(
    self, params: Params, key: PRNGKeyArray, data: Batch
  ) -> tuple[Scalar, Aux]:
    loss, _, aux = self.loss_with_state_and_aux(params, None, key, data)
    return loss, aux

  def loss_with_state_and_aux(
    self, params: Params, state: ModelState, key: PRNGKeyArray, data: Batch
  ) -> tuple[Scalar, ModelState, Aux]:
    data, key = self.training_batch(key, data)
    return self.task.loss_with_state_and_aux(params, state, key, data)

  def training_batch(
    self, key: PRNGKeyArray, data: Batch
  ) -> tuple[Batch, PRNGKeyArray]:
    """Draws this task's own training batch where none is given."""
    if is_empty(data):
      data = self.sample_batch(key)
      key = jax.random.fold_in(key, 1)
    return data, key

  def normalizer(self, loss: Float[Array, "..."]) -> Float[Array, "..."]:
    return self.task.normalizer(loss)

  def sample_batch(self, key: PRNGKeyArray, split: str = "train") -> Batch:
    # A task of learned_optimization knows no such method.
    sample = getattr(self.task, "sample_batch", None)
    return None if sample is None else sample(key, split)

  def measured_split(self, split: str) -> str:
    measured = getattr(self.task, "measured_split", super().measured_split)
    return measured(split)
