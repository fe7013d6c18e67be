"""Wrappers that turn a task into a harder or merely different one.

An augmentation samples its own small config and wraps a task. Applied to a
family it gives a family again, so augmentations compose; since they change
the optimisation problem but not the model, they are the cheapest source of
variety in meta-training ("VeLO: training versatile learned optimizers by
scaling up", Metz et al., 2022).

Main names: `Augmentation`, `AugmentedFamily`, `WrappedTask`.
"""

import abc
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import layers
from tasks.base import (
  Aux,
  Batch,
  Config,
  ModelState,
  Params,
  Scalar,
  Task,
  TaskFamily,
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


class Augmentation(abc.ABC):
  """A way to wrap tasks; subclasses are frozen dataclasses of options."""

  def sample(
    self, key: PRNGKeyArray, family: TaskFamily, cfg: Config
  ) -> Config:
    """Samples the augmentation's config for the member `cfg` of `family`."""
    del family, cfg
    return jax.random.bits(key, ())

  @abc.abstractmethod
  def wrap(self, task: Task, cfg: Config) -> Task:
    """Wraps a task by the augmentation's config."""


class AugmentedFamily(TaskFamily):
  """A family whose members are wrapped by an augmentation; final.

  Its configs are pairs: the family's and the augmentation's.
  """

  def __init__(self, family: TaskFamily, augmentation: Augmentation):
    self.family = family
    self.augmentation = augmentation
    self.datasets = family.datasets
    self.architecture = getattr(family, "architecture", "")
    self.data_ids = getattr(family, "data_ids", frozenset())
    self._name = family.name

  def sample(self, key: PRNGKeyArray) -> Config:
    family_key, own_key = jax.random.split(key)
    cfg = self.family.sample(family_key)
    return cfg, self.augmentation.sample(own_key, self.family, cfg)

  def task_fn(self, cfg: Config) -> Task:
    family_cfg, own_cfg = cfg
    return self.augmentation.wrap(self.family.task_fn(family_cfg), own_cfg)


def log_uniform(
  key: PRNGKeyArray, low: float, high: float, shape: tuple[int, ...] = ()
) -> Float[Array, "*shape"]:
  """Samples numbers whose logarithms are uniform between two bounds."""
  return jnp.exp(layers.uniform(key, shape, math.log(low), math.log(high)))


def check_range(name: str, bounds: tuple[float, float]) -> None:
  """Raises a `ValueError` unless 0 < low <= high."""
  low, high = bounds
  if not 0 < low <= high:
    raise ValueError(
      f"{name}={bounds} must be two positive numbers in order, such as"
      " (0.001, 1000.0)."
    )
