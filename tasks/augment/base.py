"""Wrappers that turn a task into a harder or merely different one.

An augmentation samples its own small config and wraps a task. Applied to a
family it gives a family again, so augmentations compose; since they change
the optimisation problem but not the model, they are the cheapest source of
variety in meta-training ("VeLO: training versatile learned optimizers by
scaling up", Metz et al., 2022).

Main names: `Augmentation`, `AugmentedFamily`.
"""

import abc
import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import layers, width
from tasks.base import Config, Task, TaskFamily
from tasks.hosted import hosted_family


class Augmentation(abc.ABC):
  """A way to wrap tasks; subclasses are frozen dataclasses of options."""

  def sample(
    self, key: PRNGKeyArray, family: TaskFamily, cfg: Config
  ) -> Config:
    """Samples the augmentation's config for the member `cfg` of `family`."""
    del family, cfg
    return jax.random.bits(key, ())

  def fitted(self, family: TaskFamily) -> "Augmentation":
    """Returns the augmentation with what it has to measure on a family."""
    del family
    return self

  @abc.abstractmethod
  def wrap(self, task: Task, cfg: Config) -> Task:
    """Wraps a task by the augmentation's config."""


class AugmentedFamily(TaskFamily):
  """A family whose members are wrapped by an augmentation; final.

  Its configs are pairs: the family's and the augmentation's.
  """

  def __init__(self, family: TaskFamily, augmentation: Augmentation):
    family = hosted_family(family)
    self.family = family
    self.augmentation = augmentation
    self.datasets = family.datasets
    self.architecture = getattr(family, "architecture", "")
    self.data_ids = getattr(family, "data_ids", frozenset())
    self._name = family.name

  def widened(self, factor: int) -> TaskFamily:
    """Returns the same augmentation of the widened family."""
    family = width.scale_width(self.family, factor)
    return AugmentedFamily(family, self.augmentation)

  def sample(self, key: PRNGKeyArray) -> Config:
    family_key, own_key = jax.random.split(key)
    cfg = self.family.sample(family_key)
    return cfg, self.augmentation.sample(own_key, self.family, cfg)

  def task_fn(self, cfg: Config) -> Task:
    family_cfg, own_cfg = cfg
    return self._fitted.wrap(self.family.task_fn(family_cfg), own_cfg)

  @functools.cached_property
  def _fitted(self) -> Augmentation:
    # Measured at first use, outside of any `jit` around it.
    with jax.ensure_compile_time_eval():
      return self.augmentation.fitted(self.family)


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
