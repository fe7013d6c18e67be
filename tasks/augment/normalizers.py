"""Normalisers: losses of different tasks on one scale.

One meta-objective averages over tasks whose losses may differ by orders of
magnitude and may diverge; a normaliser maps a loss to a bounded, comparable
number and never changes what the inner optimizer sees.

Main names: `ClipLoss`, `RescaleLoss`, `BaselineCurve`, `AdamCurve`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from tasks.augment.base import Augmentation
from tasks.base import Config, Task, TaskFamily
from tasks.wrapped import WrappedTask


@dataclasses.dataclass(frozen=True)
class ClipLoss(Augmentation):
  """Clips the normalised loss; what is not finite counts as the ceiling.

  Attributes:
    ceiling: Largest value. For cross-entropy over `n` classes 1.5 log(n) is
      usual.
  """

  ceiling: float

  def wrap(self, task: Task, cfg: Config) -> Task:
    del cfg
    return NormalizedTask(task, self._clip)

  def _clip(self, loss: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(
      jnp.isfinite(loss), jnp.minimum(loss, self.ceiling), self.ceiling
    )


@dataclasses.dataclass(frozen=True)
class RescaleLoss(Augmentation):
  """Maps `start` to 1 and `best` to 0, linearly, and clips at `ceiling`.

  Attributes:
    start: Loss at initialisation.
    best: A good loss.
    ceiling: Largest value.
  """

  start: float
  best: float
  ceiling: float = 2.0

  def __post_init__(self):
    if not self.start > self.best:
      raise ValueError(
        f"start={self.start} must exceed best={self.best}: the first is the"
        " loss before training, the second after."
      )

  def wrap(self, task: Task, cfg: Config) -> Task:
    del cfg
    return NormalizedTask(task, self._rescale)

  def _rescale(self, loss: Float[Array, "..."]) -> Float[Array, "..."]:
    value = (loss - self.best) / (self.start - self.best)
    return jnp.where(
      jnp.isfinite(value), jnp.minimum(value, self.ceiling), self.ceiling
    )


@dataclasses.dataclass(frozen=True)
class BaselineCurve(Augmentation):
  """Maps a loss to the fraction of its run that a baseline needed for it.

  1 is the baseline's initial loss, 0 its final loss; equal distances mean
  equal amounts of the baseline's work, late progress counts as much as
  early. Beyond both ends the curve continues with its mean slope.

  Attributes:
    curve: The baseline's losses in time; their running minimum is used.
    ceiling: Largest value.
  """

  curve: tuple[float, ...]
  ceiling: float = 2.0

  def __post_init__(self):
    if len(self.curve) < 2 or not self.curve[-1] < self.curve[0]:
      raise ValueError(
        f"curve of {len(self.curve)} losses must fall; train the baseline"
        " longer or at another rate."
      )

  def wrap(self, task: Task, cfg: Config) -> Task:
    del cfg
    # A tiny slope makes the curve strictly monotone, so that it inverts.
    falling = np.minimum.accumulate(np.asarray(self.curve, np.float64))
    span = falling[0] - falling[-1]
    remaining = np.linspace(1, 0, len(falling))
    levels = falling + 1e-4 * span * remaining
    levels, remaining = levels[::-1].copy(), remaining[::-1].copy()

    def normalize(loss: Float[Array, "..."]) -> Float[Array, "..."]:
      inside = jnp.interp(
        loss, levels.astype(np.float32), remaining.astype(np.float32)
      )
      above = jnp.maximum(loss - levels[-1], 0) / span
      below = jnp.minimum(loss - levels[0], 0) / span
      value = inside + above + below
      return jnp.where(
        jnp.isfinite(value), jnp.minimum(value, self.ceiling), self.ceiling
      )

    return NormalizedTask(task, normalize)


@dataclasses.dataclass(frozen=True)
class AdamCurve(Augmentation):
  """The `BaselineCurve` of Adam on one member of the family.

  It is measured when the first member is made, which takes a compilation and
  a run.

  Attributes:
    num_steps: Length of that run.
    learning_rate: Adam's learning rate.
    ceiling: Largest value.
  """

  num_steps: int = 500
  learning_rate: float = 1e-2
  ceiling: float = 2.0

  def fitted(self, family: TaskFamily) -> BaselineCurve:
    key = jax.random.key(0)
    curve = adam_curve(
      family.task_fn(family.sample(key)),
      key,
      num_steps=self.num_steps,
      learning_rate=self.learning_rate,
    )
    return BaselineCurve(curve, self.ceiling)

  def wrap(self, task: Task, cfg: Config) -> Task:
    raise ValueError(
      f"The curve of {task.name!r} is not measured; use augment(family,"
      " AdamCurve()), or fitted(family)."
    )


class NormalizedTask(WrappedTask):
  """A task with another normaliser, of the wrapped task's raw loss; final."""

  def __init__(self, task: Task, fn):
    super().__init__(task)
    self._fn = fn

  def normalizer(self, loss: Float[Array, "..."]) -> Float[Array, "..."]:
    return self._fn(loss)


def adam_curve(
  task: Task, key: PRNGKeyArray, *, num_steps: int, learning_rate: float
) -> tuple[float, ...]:
  """Trains a task by Adam and returns its losses.

  Args:
    task: The task.
    key: Random key.
    num_steps: Number of steps.
    learning_rate: Adam's learning rate.

  Returns:
    The training losses, smoothed over 5 % of the run, for `BaselineCurve`.
  """
  optimizer = optax.adam(learning_rate)
  init_key, run_key = jax.random.split(key)

  def step(carry, key):
    params, model_state, state = carry
    (loss, model_state), gradient = jax.value_and_grad(
      task.loss_with_state, has_aux=True
    )(params, model_state, key, None)
    updates, state = optimizer.update(gradient, state)
    return (optax.apply_updates(params, updates), model_state, state), loss

  @jax.jit
  def run(init_key, run_key):
    params, model_state = task.init_with_state(init_key)
    carry = params, model_state, optimizer.init(params)
    return jax.lax.scan(step, carry, jax.random.split(run_key, num_steps))[1]

  losses = np.asarray(run(init_key, run_key), np.float64)
  window = max(1, num_steps // 20)
  padded = np.concatenate([losses, np.repeat(losses[-window:].mean(), window)])
  sums = np.cumsum(np.concatenate([[0.0], padded]))
  smooth = (sums[window:] - sums[:-window]) / window
  return tuple(smooth[:num_steps].tolist())
