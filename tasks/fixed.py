"""One member of a family as a task, chosen by a seed.

Main names: `FixedTask`.
"""

import dataclasses
import functools
from typing import Any

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import width
from tasks.base import (
  Aux,
  Batch,
  ModelState,
  Params,
  Scalar,
  Task,
  TaskFamily,
)


class FixedTask(Task):
  """The member of a family that a seed gives; final.

  Args:
    family: The family.
    seed: Seed of the config. It is sampled at first use, outside of any
      `jit` around it, so that to build a task costs nothing.
    name: Name of the task; `None` for the family's.
  """

  def __init__(
    self, family: TaskFamily, *, seed: int = 0, name: str | None = None
  ):
    self.family = family
    self.datasets = family.datasets
    self.architecture = family.architecture
    self.data_ids = family.data_ids
    self._seed = seed
    self._name = name or family.name

  @property
  def name(self) -> str:
    return self._name

  def widened(self, factor: int) -> Task:
    """Returns the member of the widened family that the same seed gives."""
    return FixedTask(
      width.scale_width(self.family, factor),
      seed=self._seed,
      name=f"{self._name}_wide{factor}",
    )

  def with_options(self, **changes: Any) -> Task:
    """Returns the same member of the family with some options changed.

    Args:
      **changes: fields of the family, which must be a dataclass.
    """
    assert dataclasses.is_dataclass(self.family)
    family = dataclasses.replace(self.family, **changes)  # type: ignore[type-var]
    return FixedTask(family, seed=self._seed, name=self._name)

  @functools.cached_property
  def task(self) -> Task:
    """The member itself."""
    with jax.ensure_compile_time_eval():
      return self.family.task_fn(self.family.sample(jax.random.key(self._seed)))

  def init(self, key: PRNGKeyArray) -> Params:
    return self.task.init(key)

  def init_with_state(self, key: PRNGKeyArray) -> tuple[Params, ModelState]:
    return self.task.init_with_state(key)

  def loss(self, params: Params, key: PRNGKeyArray, data: Batch) -> Scalar:
    return self.task.loss(params, key, data)

  def loss_with_state(
    self, params: Params, state: ModelState, key: PRNGKeyArray, data: Batch
  ) -> tuple[Scalar, ModelState]:
    return self.task.loss_with_state(params, state, key, data)

  def loss_and_aux(
    self, params: Params, key: PRNGKeyArray, data: Batch
  ) -> tuple[Scalar, Aux]:
    return self.task.loss_and_aux(params, key, data)

  def loss_with_state_and_aux(
    self, params: Params, state: ModelState, key: PRNGKeyArray, data: Batch
  ) -> tuple[Scalar, ModelState, Aux]:
    return self.task.loss_with_state_and_aux(params, state, key, data)

  def normalizer(self, loss: Float[Array, "..."]) -> Float[Array, "..."]:
    return self.task.normalizer(loss)

  def sample_batch(self, key: PRNGKeyArray, split: str = "train") -> Batch:
    return self.task.sample_batch(key, split)

  def measured_split(self, split: str) -> str:
    return self.task.measured_split(split)
