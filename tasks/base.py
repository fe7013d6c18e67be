"""What an inner problem is: `Task`, and a distribution over them, `TaskFamily`.

A task owns parameters to be trained and a stochastic loss. A family samples
a pytree of arrays, the *config*, and turns it into a task; since all members
of one family have equal parameter shapes, many tasks are one `vmap` over
configs. Method names and signatures are those of the package
learned_optimization (Metz et al., "Practical tradeoffs between memory,
compute, and performance in learned optimizers", 2022), so that tasks of
either package run in the other. In addition our tasks draw their own data
inside `jit`, with `sample_batch`.

Main names: `Task`, `TaskFamily`, `single_task_to_family`, `is_empty`.
"""

import abc
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Params = Any  # Pytree of arrays that an optimizer trains.
ModelState = Any  # Pytree that the loss updates, such as running averages.
Batch = Any  # Pytree of arrays, or None where the task draws its own data.
Config = Any  # Pytree of arrays that tells one member of a family.
Scalar = Float[Array, ""]
Aux = Mapping[str, Array]

SPLITS = ("train", "valid", "test")


def is_empty(data: Batch) -> bool:
  """Whether `data` says "draw your own": `None` or an empty tuple.

  learned_optimization passes `()` to tasks without data sets.
  """
  return data is None or (isinstance(data, tuple) and not data)


class Task(abc.ABC):
  """An inner problem: how to initialise parameters, and their loss.

  A subclass defines `init` and `loss` (or, if it keeps a model state,
  `init_with_state` and `loss_with_state`), and `sample_batch` if there is
  held-out data. Everything is pure and can be jitted and vmapped.

  Attributes:
    datasets: Host iterators with the attributes `train`, `inner_valid`,
      `outer_valid` and `test`, or `None` for a task that draws its data
      inside `jit`, which all tasks of this package do; see `tasks.hosted`.
    architecture: Tells models apart; suites compare it.
    data_ids: Pairs (source, part) of the data used; suites compare it.
  """

  datasets: Any = None
  architecture: str = ""
  data_ids: frozenset[tuple[str, str]] = frozenset()

  @property
  def name(self) -> str:
    """Name for tables and pictures."""
    return type(self).__name__

  @abc.abstractmethod
  def init(self, key: PRNGKeyArray) -> Params:
    """Samples initial parameters."""

  def init_with_state(self, key: PRNGKeyArray) -> tuple[Params, ModelState]:
    """Samples initial parameters and the initial model state."""
    return self.init(key), None

  @abc.abstractmethod
  def loss(self, params: Params, key: PRNGKeyArray, data: Batch) -> Scalar:
    """Computes the loss.

    Args:
      params: Parameters as `init` makes them.
      key: Source of all randomness in the loss: noise, and the batch itself
        if `data` is empty.
      data: A batch from `sample_batch` or `datasets`; `None` or `()` for a
        training batch drawn from `key`.

    Returns:
      The scalar loss.
    """

  def loss_with_state(
    self, params: Params, state: ModelState, key: PRNGKeyArray, data: Batch
  ) -> tuple[Scalar, ModelState]:
    """Computes the loss and the next model state."""
    _refuse_state(self, state, "loss_with_state")
    return self.loss(params, key, data), None

  def loss_and_aux(
    self, params: Params, key: PRNGKeyArray, data: Batch
  ) -> tuple[Scalar, Aux]:
    """Computes the loss and named quantities for logging."""
    return self.loss(params, key, data), {}

  def loss_with_state_and_aux(
    self, params: Params, state: ModelState, key: PRNGKeyArray, data: Batch
  ) -> tuple[Scalar, ModelState, Aux]:
    """Computes the loss, the next model state and quantities for logging."""
    _refuse_state(self, state, "loss_with_state_and_aux")
    loss, aux = self.loss_and_aux(params, key, data)
    return loss, None, aux

  def normalizer(self, loss: Float[Array, "..."]) -> Float[Array, "..."]:
    """Maps a loss to a scale on which tasks may be averaged."""
    return loss

  def sample_batch(self, key: PRNGKeyArray, split: str = "train") -> Batch:
    """Draws a batch, purely and inside `jit`.

    Args:
      key: Random key.
      split: `"train"`, `"valid"` or `"test"`; static.

    Returns:
      A batch for `loss`; `None` if the loss needs none.
    """
    del key
    check_split(split)
    return None

  def measured_split(self, split: str) -> str:
    """Returns the split to draw batches from to measure the loss of a split.

    It is another one where training batches are those of held-out data with
    noise that belongs to training steps alone.

    Args:
      split: as for `sample_batch`.
    """
    return split


class TaskFamily(abc.ABC):
  """A distribution over tasks of equal parameter shapes.

  Attributes:
    datasets: As in `Task`.
    architecture: As in `Task`.
    data_ids: As in `Task`.
  """

  datasets: Any = None
  architecture: str = ""
  data_ids: frozenset[tuple[str, str]] = frozenset()
  _name: str | None = None

  @property
  def name(self) -> str:
    """Name for tables and pictures."""
    return self._name or type(self).__name__

  @property
  def eval_datasets(self) -> Any:
    """Host iterators for evaluation."""
    return self.datasets

  @abc.abstractmethod
  def sample(self, key: PRNGKeyArray) -> Config:
    """Samples a config: a pytree of arrays that `vmap` can batch."""

  @abc.abstractmethod
  def task_fn(self, cfg: Config) -> Task:
    """Makes the task of a config; the config may be traced."""

  def eval_task_fn(self, cfg: Config) -> Task:
    """Makes the task of a config for evaluation."""
    return self.task_fn(cfg)

  def sample_task(self, key: PRNGKeyArray) -> Task:
    """Samples a config and makes its task."""
    return self.task_fn(self.sample(key))


class SingleTaskFamily(TaskFamily):
  """The family whose only member is a given task."""

  def __init__(self, task: Task, name: str | None = None):
    self.task = task
    self._name = name or getattr(task, "name", type(task).__name__)
    self.datasets = getattr(task, "datasets", None)
    self.architecture = getattr(task, "architecture", "")
    self.data_ids = getattr(task, "data_ids", frozenset())

  def sample(self, key: PRNGKeyArray) -> Config:
    del key
    return jnp.zeros((), jnp.int32)

  def task_fn(self, cfg: Config) -> Task:
    del cfg
    return self.task


def single_task_to_family(task: Task, name: str | None = None) -> TaskFamily:
  """Makes the family whose only member is `task`.

  Args:
    task: Any object with the methods of `Task`.
    name: Name of the family; `None` for the task's own.

  Returns:
    The family.
  """
  return SingleTaskFamily(task, name)


def check_split(split: str) -> None:
  """Raises a `ValueError` unless `split` is one of `SPLITS`."""
  if split not in SPLITS:
    raise ValueError(f"split={split!r} must be one of {', '.join(SPLITS)}.")


def _refuse_state(task: Task, state: ModelState, method: str) -> None:
  if state is not None:
    raise ValueError(
      f"Task {task.name!r} got a model state, but defines none; override"
      f" `{method}` to use it, or pass state=None."
    )
