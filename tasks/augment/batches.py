"""Noisier training batches: fewer distinct examples, wrong labels.

Both act on training batches only: what is validated stays clean.

Main names: `EffectiveBatchSize`, `LabelNoise`.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks.augment.base import (
  Augmentation,
  check_range,
  log_uniform,
)
from tasks.base import Batch, Config, Task, TaskFamily
from tasks.wrapped import WrappedTask


@dataclasses.dataclass(frozen=True)
class EffectiveBatchSize(Augmentation):
  """Repeats examples, so that fewer of a batch are distinct.

  The batch keeps its shape, so the effective size may differ between
  members of a vmapped family; it is log-uniform.

  Attributes:
    fractions: Smallest and largest fraction of distinct examples.
  """

  fractions: tuple[float, float] = (1 / 16, 1.0)

  def __post_init__(self):
    check_range("fractions", self.fractions)
    if self.fractions[1] > 1:
      raise ValueError(
        f"fractions={self.fractions} must not exceed 1; to enlarge batches"
        " set the family's batch_size."
      )

  def sample(
    self, key: PRNGKeyArray, family: TaskFamily, cfg: Config
  ) -> Config:
    del family, cfg
    return log_uniform(key, *self.fractions)

  def wrap(self, task: Task, cfg: Config) -> Task:
    return RepeatedExamplesTask(task, cfg)


class RepeatedExamplesTask(WrappedTask):
  """A task that sees only a fraction of each training batch; final."""

  def __init__(self, task: Task, fraction: Float[Array, ""]):
    super().__init__(task)
    self._fraction = fraction

  def sample_batch(self, key: PRNGKeyArray, split: str = "train") -> Batch:
    batch = super().sample_batch(key, split)
    if split != "train":
      return batch
    return jax.tree.map(self._repeat, batch)

  def _repeat(self, x: Array) -> Array:
    size = x.shape[0]
    distinct = jnp.maximum(1, jnp.round(self._fraction * size))
    rows = jnp.arange(size) % distinct.astype(jnp.int32)
    return x[rows]


@dataclasses.dataclass(frozen=True)
class LabelNoise(Augmentation):
  """Swaps a fraction of the labels of a training batch among its examples.

  Batches need a field `label`. Exchanging labels keeps their frequencies.

  Attributes:
    rates: Smallest and largest fraction; uniform in between.
  """

  rates: tuple[float, float] = (0.0, 0.5)

  def __post_init__(self):
    low, high = self.rates
    if not 0 <= low <= high <= 1:
      raise ValueError(
        f"rates={self.rates} must be two numbers in [0, 1] in order."
      )

  def sample(
    self, key: PRNGKeyArray, family: TaskFamily, cfg: Config
  ) -> Config:
    del family, cfg
    low, high = self.rates
    return jax.random.uniform(key, (), minval=low, maxval=high)

  def wrap(self, task: Task, cfg: Config) -> Task:
    return NoisyLabelTask(task, cfg)


class NoisyLabelTask(WrappedTask):
  """A task with wrong labels in its training batches; final."""

  def __init__(self, task: Task, rate: Float[Array, ""]):
    super().__init__(task)
    self._rate = rate

  def sample_batch(self, key: PRNGKeyArray, split: str = "train") -> Batch:
    batch = super().sample_batch(key, split)
    if split != "train":
      return batch
    if not isinstance(batch, Mapping) or "label" not in batch:
      raise ValueError(
        f"Task {self.name!r} has no labels to make noisy; LabelNoise is for"
        " classification."
      )
    return {**batch, "label": self._swap(key, batch["label"])}

  def _swap(
    self, key: PRNGKeyArray, label: Int[Array, "batch"]
  ) -> Int[Array, "batch"]:
    wrong = jax.random.bernoulli(
      jax.random.fold_in(key, 2), self._rate, label.shape
    )
    # The batch is random already: a shift is as good as a shuffle.
    return jnp.where(wrong, jnp.roll(label, 1), label)
