"""Meta-training from start, or from where it was left, to its result."""

import time
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from meta_train import run_folder, training
from meta_train.config import MetaTrainConfig
from meta_train.errors import UserError
from meta_train.outer import OuterState, StepMetrics
from meta_train.progress import Progress


def train(
  run: training.Training, config: MetaTrainConfig, folder: run_folder.RunFolder
) -> OuterState:
  """Takes outer steps until `config.outer_steps`, from the last checkpoint.

  Args:
    run: the parts.
    config: the settings.
    folder: the open run folder; rows and checkpoints go there.

  Returns:
    The state after the last outer step.
  """
  theta, _ = ravel_pytree(run.theta)
  state = run.loop.init(theta)
  outer_step, state = folder.restore(state)
  state = jax.device_put(state, run.loop.shardings)
  pending: list[StepMetrics] = []
  start_s = time.monotonic()
  saved = outer_step
  with Progress(
    total=config.outer_steps, done=outer_step, inner_steps=run.inner_steps
  ) as progress:
    while outer_step < config.outer_steps:
      state, metrics = run.loop.step(state)
      outer_step += 1
      pending.append(metrics)
      progress.update(outer_step, meta_loss=metrics.meta_loss)
      last = outer_step == config.outer_steps
      if outer_step % config.log_every == 0 or last:
        now_s = time.monotonic()
        folder.metrics.append(
          _row(outer_step, run, pending, now_s - start_s)
        )
        pending, start_s = [], now_s
      if outer_step % config.checkpoint_every == 0 or last:
        folder.save(outer_step, state)
        saved = outer_step
  del saved
  return state


def _row(
  outer_step: int,
  run: training.Training,
  metrics: list[StepMetrics],
  wall_s: float,
) -> dict[str, Any]:
  """Returns the row of the outer steps since the last one, their means."""
  host = jax.device_get(metrics)
  mean = {
    name: float(np.mean([getattr(m, name) for m in host]))
    for name in StepMetrics._fields
  }
  return {
    "outer_step": outer_step,
    **mean,
    "inner_steps": outer_step * run.inner_steps,
    "inner_steps_per_s": len(host) * run.inner_steps / max(wall_s, 1e-9),
    "wall_s": wall_s,
  }
