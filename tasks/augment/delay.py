"""Gradients that arrive late, as in asynchronous training.

The model state keeps the last few parameters; loss and gradient are those
of the oldest. (Dean et al., "Large scale distributed deep networks", 2012.)

Main names: `DelayGradient`.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from tasks.augment.base import Augmentation
from tasks.base import (
  Aux,
  Batch,
  Config,
  ModelState,
  Params,
  Scalar,
  Task,
)
from tasks.wrapped import WrappedTask


class DelayState(NamedTuple):
  """Parameters of past steps, oldest first, and the task's own state."""

  past: Params
  inner: ModelState


@dataclasses.dataclass(frozen=True)
class DelayGradient(Augmentation):
  """Evaluates loss and gradient at the parameters of some steps ago.

  Attributes:
    num_steps: Age of the gradient.
  """

  num_steps: int = 2

  def __post_init__(self):
    if self.num_steps < 1:
      raise ValueError(
        f"num_steps={self.num_steps} must be at least 1; leave the wrapper"
        " out for gradients without delay."
      )

  def wrap(self, task: Task, cfg: Config) -> Task:
    del cfg
    return DelayedTask(task, self.num_steps)


class DelayedTask(WrappedTask):
  """A task with late gradients; it has a model state; final."""

  def __init__(self, task: Task, num_steps: int):
    super().__init__(task)
    self._num_steps = num_steps

  def init_with_state(self, key: PRNGKeyArray) -> tuple[Params, ModelState]:
    params, inner = self.task.init_with_state(key)
    past = jax.tree.map(
      lambda p: jnp.broadcast_to(p, (self._num_steps, *p.shape)), params
    )
    return params, DelayState(past, inner)

  def loss_with_state_and_aux(
    self, params: Params, state: ModelState, key: PRNGKeyArray, data: Batch
  ) -> tuple[Scalar, ModelState, Aux]:
    if state is None:  # One evaluation outside of training: nothing is late.
      return super().loss_with_state_and_aux(params, None, key, data)
    # The value of the past parameters with the gradient's path of the new.
    late = jax.tree.map(
      lambda p, old: old[0] + (p - jax.lax.stop_gradient(p)),
      params,
      state.past,
    )
    loss, inner, aux = super().loss_with_state_and_aux(
      late, state.inner, key, data
    )
    past = jax.tree.map(
      lambda old, p: jnp.concatenate([old[1:], p[None]]),
      state.past,
      jax.lax.stop_gradient(params),
    )
    return loss, DelayState(past, inner), aux
