"""Sweeps: the same tasks under other conditions than they were made for.

A sweep is a list of settings, each of which changes a task, the number of
steps, or what the optimizer is told; one of its settings changes nothing.

  horizon      runs 1, 5 and 25 times as long
  width        hidden layers 1, 2, 4 and 8 times as wide
  batch_size   batches 1/4, 1/2, 1, 2 and 4 times as large
  told_steps   the optimizer is told 1/10, 1/2, 1, 2 and 10 times the steps, or
               nothing of them (`withheld`)
  loss_scale   losses 1e-6 to 1e6 times as large
  dtype        parameters in float32 and bfloat16
  outliers     gradients of one batch in 100, at random, are 1, 10, 100 and
               1,000 times as large

Curves and final losses are in the units of the task as it was.

Names: `Setting`, `make_sweep`, `list_sweeps`, `is_refusal`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from meta_train.errors import check_choice
from tasks.fixed import FixedTask
from tasks.width import scale_width
from tasks.wrapped import WrappedTask


def _same(task: Any) -> Any:
  return task


@dataclasses.dataclass(frozen=True)
class Setting:
  """One setting of a sweep.

  Attributes:
    sweep: name of the sweep.
    value: what it is set to, for tables.
    change: task -> task; `None` in its place where it can't be changed so.
    steps: factor of the number of steps.
    told: factor of the number of steps that the optimizer is told; 0: it is
      told none.
    loss_scale: factor of the losses that `change` makes, to be taken out.
  """

  sweep: str
  value: str
  change: Callable[[Any], Any] = _same
  steps: int = 1
  told: float = 1.0
  loss_scale: float = 1.0

  @property
  def fields(self) -> dict[str, str]:
    """What rows say about it."""
    return {"sweep": self.sweep, "value": self.value}

  def refusal(self, task: str) -> str:
    """Says that a task can't be changed so.

    Args:
      task: name of the task.
    """
    return f"{task} has no {self.sweep} to set to {self.value}."

  def too_short(self, num_steps: int) -> list[str]:
    """Says if runs are so short that the setting may change nothing.

    Args:
      num_steps: inner steps of a run.
    """
    expected = num_steps * Outliers.share
    if self.sweep != "outliers" or expected >= 5:
      return []
    return [
      f"outliers: in runs of {num_steps} steps there are {expected:.1f} wild "
      "batches on average, and some runs have none; give more --steps."
    ]


def is_refusal(sentence: str) -> bool:
  """Whether a sentence is one of `Setting.refusal`."""
  return any(f" has no {sweep} to set to " in sentence for sweep in _SWEEPS)


def make_sweep(name: str) -> tuple[Setting, ...]:
  """Returns the settings of a sweep.

  Args:
    name: one of `list_sweeps()`.

  Raises:
    UserError: there is no such sweep.
  """
  check_choice("sweep", name, _SWEEPS)
  return _SWEEPS[name]


def list_sweeps() -> tuple[str, ...]:
  """Returns the names of all sweeps."""
  return tuple(_SWEEPS)


class ScaledLoss(WrappedTask):
  """A task whose loss is multiplied by a number; final."""

  def __init__(self, task: Any, scale: float):
    super().__init__(task)
    self._scale = scale

  def loss_with_state_and_aux(self, params, state, key, data):
    loss, state, aux = super().loss_with_state_and_aux(params, state, key, data)
    return loss * self._scale, state, aux


class CastParams(WrappedTask):
  """A task whose parameters are kept in another dtype; final.

  The loss is computed in float32 from the cast parameters, as in training
  with low-precision weights.
  """

  def __init__(self, task: Any, dtype: Any):
    super().__init__(task)
    self._dtype = dtype

  def init_with_state(self, key):
    params, state = super().init_with_state(key)
    return _cast(params, self._dtype), state

  def loss_with_state_and_aux(self, params, state, key, data):
    return super().loss_with_state_and_aux(
      _cast(params, jnp.float32), state, key, data
    )


def _cast(tree: Any, dtype: Any) -> Any:
  return jax.tree.map(
    lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x,
    tree,
  )


class Outliers(WrappedTask):
  """A task of which some batches have gradients that are larger; final.

  Losses are as they were.
  """

  share = 0.01

  def __init__(self, task: Any, factor: float):
    super().__init__(task)
    self._factor = factor

  def loss_with_state_and_aux(self, params, state, key, data):
    loss, state, aux = super().loss_with_state_and_aux(params, state, key, data)
    # Of a key that the task does not draw from.
    drawn = jax.random.bernoulli(jax.random.fold_in(key, 2**32 - 1), self.share)
    more = jnp.where(drawn, self._factor - 1.0, 0.0)
    return loss + more * (loss - jax.lax.stop_gradient(loss)), state, aux


class Renamed(WrappedTask):
  """A task under another name; final."""

  def __init__(self, task: Any, name: str):
    super().__init__(task)
    self._name = name

  @property
  def name(self) -> str:
    return self._name


def _wider(factor: int) -> Callable[[Any], Any]:
  def change(task: Any) -> Any:
    if factor == 1:
      return task
    try:
      return Renamed(scale_width(task, factor), task.name)
    except ValueError:
      return None  # It has no width.

  return change


def _batch_size(factor: float) -> Callable[[Any], Any]:
  def change(task: Any) -> Any:
    size = _options(task).get("batch_size")
    if factor == 1:
      return task
    if size is None or size * factor < 1:
      return None
    return task.with_options(batch_size=round(size * factor))

  return change


def _options(task: Any) -> dict[str, Any]:
  """Returns the options of a task of the registry; else none."""
  family = getattr(task, "family", None)
  if not (isinstance(task, FixedTask) and dataclasses.is_dataclass(family)):
    return {}
  return {
    field.name: getattr(family, field.name)
    for field in dataclasses.fields(family)
  }


def _sweep(name: str, **settings: dict[str, Any]) -> tuple[Setting, ...]:
  return tuple(
    Setting(name, value, **changes) for value, changes in settings.items()
  )


def _loss_scale(scale: float) -> dict[str, Any]:
  return {"change": lambda task: ScaledLoss(task, scale), "loss_scale": scale}


def _outliers(factor: int) -> dict[str, Any]:
  if factor == 1:
    return {}
  return {"change": lambda task: Outliers(task, factor)}


_SWEEPS = {
  "horizon": _sweep("horizon", **{f"x{n}": {"steps": n} for n in (1, 5, 25)}),
  "width": _sweep(
    "width", **{f"x{n}": {"change": _wider(n)} for n in (1, 2, 4, 8)}
  ),
  "batch_size": _sweep(
    "batch_size",
    **{f"x{n:g}": {"change": _batch_size(n)} for n in (0.25, 0.5, 1, 2, 4)},
  ),
  "told_steps": _sweep(
    "told_steps",
    **{f"x{n:g}": {"told": n} for n in (0.1, 0.5, 1, 2, 10)},
    withheld={"told": 0},
  ),
  "loss_scale": _sweep(
    "loss_scale",
    **{
      f"{scale:.0e}".replace("e+00", ""): _loss_scale(scale)
      if scale != 1
      else {}
      for scale in (1e-6, 1e-3, 1.0, 1e3, 1e6)
    },
  ),
  "dtype": _sweep(
    "dtype",
    float32={},
    bfloat16={"change": lambda task: CastParams(task, jnp.bfloat16)},
  ),
  "outliers": _sweep(
    "outliers", **{f"x{n}": _outliers(n) for n in (1, 10, 100, 1000)}
  ),
}
