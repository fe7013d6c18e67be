"""Tasks with host iterators, as tasks that draw their own data inside `jit`.

A hosted task draws its batches from a pool: arrays in memory with a leading
axis of batches. Where nothing else is said, these are the first batches of
its iterators; a training loop that reads new ones for every unroll binds
them to a family's config before it makes the task. In this way batches of
the host pass through augmentations as all others do, and whatever works with
a task that draws its own data works with one that does not.

Main names: `hosted_task`, `hosted_family`, `bind`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from tasks.base import Batch, Config, Task, TaskFamily, check_split
from tasks.host_data import NumberedDatasets
from tasks.wrapped import WrappedTask

#: Which iterator stands for which of our splits.
ITERATORS = {"train": "train", "valid": "outer_valid", "test": "test"}

Pools = Mapping[str, Batch]  # By split, with a leading axis of batches.


class HostedConfig(NamedTuple):
  """A config with batches.

  Attributes:
    cfg: The family's own config.
    pools: Batches to draw from, by split, with a leading axis; `None`, and
      splits that are not in it, stand for the first ones of the iterators.
  """

  cfg: Config
  pools: Pools | None


def hosted_task(task: Task) -> Task:
  """Makes a task with `datasets` draw its own data; leaves others alone."""
  if getattr(task, "datasets", None) is None or isinstance(task, HostedTask):
    return task
  return HostedTask(task, NumberedDatasets(task.datasets), None)


def hosted_family(family: TaskFamily) -> TaskFamily:
  """Makes the members of a family with `datasets` draw their own data.

  Families without `datasets`, and those that do so already, are returned as
  they are.
  """
  datasets = getattr(family, "datasets", None)
  if datasets is None or isinstance(datasets, NumberedDatasets):
    return family
  return HostedFamily(family)


def bind(cfg: Config, pools: Pools) -> Config:
  """Replaces what the members of a hosted family draw their batches from.

  Args:
    cfg: Config of a hosted family, or of one around it.
    pools: By split, arrays with a leading axis of batches.

  Returns:
    The config with the pools in it.
  """

  def replace(part: Any) -> Any:
    return part._replace(pools=pools) if _has_pools(part) else part

  return jax.tree.map(replace, cfg, is_leaf=_has_pools)


class HostedFamily(TaskFamily):
  """A family whose members draw from host iterators; final.

  Args:
    family: A family with `datasets`.
  """

  def __init__(self, family: TaskFamily):
    self.family = family
    self.datasets = NumberedDatasets(family.datasets)
    self.architecture = getattr(family, "architecture", "")
    self.data_ids = getattr(family, "data_ids", frozenset())
    self._name = family.name

  def sample(self, key: PRNGKeyArray) -> Config:
    return HostedConfig(self.family.sample(key), None)

  def task_fn(self, cfg: Config) -> Task:
    return HostedTask(self.family.task_fn(cfg.cfg), self.datasets, cfg.pools)


class HostedTask(WrappedTask):
  """A task that draws from pools of batches; final."""

  def __init__(
    self, task: Task, datasets: NumberedDatasets, pools: Pools | None
  ):
    super().__init__(task)
    self.datasets = datasets
    self._pools = pools or {}

  def sample_batch(self, key: PRNGKeyArray, split: str = "train") -> Batch:
    check_split(split)
    pool = self._pools.get(split)
    if pool is None:
      pool = self.datasets.pool(ITERATORS[split])
    size = jax.tree.leaves(pool)[0].shape[0]
    number = jax.random.randint(key, (), 0, size) if size > 1 else 0
    return jax.tree.map(lambda x: jnp.asarray(x)[number], pool)


def _has_pools(part: Any) -> bool:
  return isinstance(part, HostedConfig)
