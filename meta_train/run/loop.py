"""The outer loop: outer steps, rows, checkpoints and scores.

Main names: `train`.
"""

import collections
import contextlib
import io
import pathlib
import shlex
import signal
import sys
import time
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from meta_train.command import signals
from meta_train.config import MetaTrainConfig
from meta_train.engine import (
  idle_settings,
  meter,
  outer_optimizer,
  training,
)
from meta_train.evaluation.problems import Problems
from meta_train.reports import report
from meta_train.run import (
  memory_maps,
  run_folder,
  saved,
  tensorboard,
  validation,
)
from meta_train.run.live_report import LiveReport
from meta_train.run.progress import Progress
from meta_train.run.saved import Best, Saved
from meta_train.terminal import say

_ALL_DIVERGED = (
  "every inner run has diverged, so that the optimizer learns nothing from "
  "them; do its steps suit the task, and is the loss finite along the way?"
)


def train(
  parts: training.Parts,
  config: MetaTrainConfig,
  problems: Problems,
  folder: run_folder.RunFolder | None,
) -> Saved:
  """Takes outer steps until `config.outer_steps`, from the last checkpoint.

  Args:
    parts: the parts of the run.
    config: the settings.
    problems: the task families and validation tasks.
    folder: the open run folder, where rows and checkpoints go; None in all
      processes but the first.

  Returns:
    The state after the last outer step.

  Raises:
    Stopped: SIGINT or SIGTERM came; the state was saved. A validation that
      was due then is made up for by the next start.
  """
  group, loop = parts.loop.group, parts.loop
  validate = validation.Validation(
    problems.validation,
    parts.lopt,
    parts.unravel,
    num_steps=config.validation_steps,
    devices=loop.devices,
  )
  state, template = saved.start(
    parts,
    folder,
    len(validate.names),
    on_accepted=lambda: _announce(config, parts, folder),
  )
  outer_step = int(state.outer.outer_step)
  _warn_of_rate(config, parts, folder, outer_step)
  if outer_step < config.outer_steps:
    loop.compile(state.outer, config.outer_steps - outer_step)
    if folder is not None and (advice := memory_maps.advice()):
      say(f"warning: {advice}")
  recent: collections.deque[float] = collections.deque(maxlen=50)
  since, since_s = outer_step, time.monotonic()
  with contextlib.ExitStack() as stack:
    progress = stack.enter_context(
      Progress(
        total=config.outer_steps,
        done=outer_step,
        inner_steps=parts.inner_steps,
        stream=None if folder is not None else io.StringIO(),
      )
    )
    write = stack.enter_context(_open_writer(config, folder))
    live = LiveReport(
      folder.path if folder else pathlib.Path(),
      every_s=config.report_every if folder else 0.0,
      write=report.write_report,
    )
    asked = stack.enter_context(signals.noted())

    def is_asked() -> bool:
      # All processes stop at the same step, whichever was asked.
      return group.any(asked.number != 0)

    def is_due() -> bool:
      last = outer_step == config.outer_steps
      return bool(config.validate_every and validate.names and outer_step) and (
        outer_step % config.validate_every == 0 or last
      )

    def validated(state: Saved) -> Saved:
      """Keeps the score; its row is last, as the sign that all is done."""
      state, row = _validate(validate, parts, state, folder)
      _save(parts, state, template, folder)
      if folder is not None:
        folder.append_validation(row)
        write(row)
      return state

    if config.result == "best" and config.validate_every and validate.names:
      state = _score_start(config, validate, parts, state, folder)
    behind = stopping = warned = False
    if is_due() and group.any(_is_missing(folder, outer_step)):
      state = validated(state)
      stopping = is_asked()
    while outer_step < config.outer_steps and not stopping:
      outer, metrics = loop.step(state.outer)
      state = state._replace(outer=outer, meter=meter.add(state.meter, metrics))
      outer_step += 1
      last = outer_step == config.outer_steps
      if outer_step % config.log_every == 0 or last:
        now_s = time.monotonic()
        if folder is not None:
          taken = outer_step - since, now_s - since_s
          row = _row(outer_step, state, parts, *taken)
          folder.append(row)
          write(row)
          if row["diverged_fraction"] == 1.0 and not warned:
            say(f"warning: since outer step {since} {_ALL_DIVERGED}")
            warned = True
        state = state._replace(meter=meter.empty(len(parts.names)))
        since, since_s = outer_step, now_s
      stopping, behind = is_asked(), is_due()
      if (
        outer_step % config.checkpoint_every == 0 or behind or stopping or last
      ):
        _save(parts, state, template, folder)
      if behind and not stopping:
        state, behind = validated(state), False
        stopping = is_asked()
      recent.append(metrics.meta_loss)
      progress.update(outer_step, meta_loss=np.mean(recent))
      live.update()
    stopping = stopping or is_asked()
    more = outer_step < config.outer_steps or behind or config.evaluate
    if stopping and more:
      raise signals.Stopped(
        asked.number or signal.SIGTERM,
        f"outer step {outer_step} is saved; continue with: {_again()}",
      )
  if folder is not None and (text := meter.left_out(folder.metrics.read())):
    say(text)
  if recent and metrics.diverged_fraction == 1.0:
    say(f"warning: at the end {_ALL_DIVERGED}")
  return state


def _announce(
  config: MetaTrainConfig,
  parts: training.Parts,
  folder: run_folder.RunFolder | None,
) -> None:
  if folder is None:
    return
  say(
    f"meta-training on {_shortened(parts.names)}: {config.outer_steps} outer "
    f"steps of {parts.inner_steps:.0f} inner steps; {folder.path}"
  )
  for text in (
    *idle_settings.cautions(config),
    *training.cautions(config, parts.loop.phases),
  ):
    say(f"warning: {text}")
  if len(parts.names) > 4:
    say(
      f"compiling for {len(parts.names)} families, some seconds each; the "
      "programs are kept for later starts"
    )


def _warn_of_rate(
  config: MetaTrainConfig,
  parts: training.Parts,
  folder: run_folder.RunFolder | None,
  outer_step: int,
) -> None:
  if folder is None or folder.former is None:
    return
  text = outer_optimizer.on_continuing(
    config,
    parts.loop.phases[-1],
    done=outer_step,
    former_steps=folder.former.outer_steps,
  )
  if text:
    say(f"warning: {text}")


def _row(
  outer_step: int,
  state: Saved,
  parts: training.Parts,
  taken: int,
  wall_s: float,
) -> dict[str, Any]:
  """Returns the row of the outer steps since the last one, their means.

  Of these `taken` were taken in `wall_s` seconds, and others perhaps by the
  start before.
  """
  columns = meter.row(state.meter, parts.names)
  theta = parts.unravel(np.asarray(state.outer.average))
  inner_steps = taken * parts.inner_steps
  return {
    "outer_step": outer_step,
    **columns,
    **parts.lopt.time_scales(theta),
    "inner_steps": round(outer_step * parts.inner_steps),
    "inner_steps_per_s": inner_steps / max(wall_s, 1e-9),
    "wall_s": wall_s,
  }


def _open_writer(
  config: MetaTrainConfig, folder: run_folder.RunFolder | None
) -> contextlib.AbstractContextManager[tensorboard.Write]:
  if folder is None or not config.tensorboard:
    return tensorboard.open_writer(pathlib.Path(), wanted=False)
  rows = [*folder.metrics.read(), *folder.validation.read()]
  return tensorboard.open_writer(folder.path, wanted=True, rows=rows)


def _is_missing(folder: run_folder.RunFolder | None, outer_step: int) -> bool:
  """Returns whether an outer step has no row of validation."""
  return folder is not None and not any(
    row["outer_step"] == outer_step for row in folder.validation.read()
  )


def _score_start(
  config: MetaTrainConfig,
  validate: validation.Validation,
  parts: training.Parts,
  state: Saved,
  folder: run_folder.RunFolder | None,
) -> Saved:
  """Lets the theta that the run began with be the best, as any other.

  The untrained one has a score of 0 by definition, whenever it is asked for;
  given weights are scored before the first outer step, and then alone.
  """
  if folder is None:
    return state
  begins = config.outer_steps and not int(state.outer.outer_step)
  if not config.init_from:
    theta, _ = ravel_pytree(parts.theta)
    row = _score_row(0, validate, np.zeros(len(validate.names)))
    state = state._replace(best=_better(state.best, 0, 0.0, theta))
  elif begins:
    state, row = _validate(validate, parts, state, folder)
  if begins and _is_missing(folder, 0):
    folder.append_validation(row)
  return state


def _validate(
  validate: validation.Validation,
  parts: training.Parts,
  state: Saved,
  folder: run_folder.RunFolder | None,
) -> tuple[Saved, dict[str, Any]]:
  """Scores the running average, and keeps it if it is the best so far.

  Returns:
    The state, and the row of validation.jsonl.
  """
  if folder is None:
    return state, {}
  best, theta = state.best, state.outer.average
  if np.any(np.isnan(best.untrained)):
    start, _ = ravel_pytree(parts.lopt.init(jax.random.key(0)))
    best = best._replace(untrained=validate.losses(start))
  gains = validate.losses(theta) - best.untrained
  outer_step = int(state.outer.outer_step)
  best = _better(best, outer_step, validation.score(gains), theta)
  row = _score_row(outer_step, validate, gains)
  return state._replace(best=best), row


def _score_row(
  outer_step: int, validate: validation.Validation, gains: np.ndarray
) -> dict[str, Any]:
  each = zip(validate.names, map(float, gains))
  return {
    "outer_step": outer_step,
    "score": validation.score(gains),
    **{f"score/{name}": gain for name, gain in each},
  }


def _better(best: Best, outer_step: int, score: float, theta) -> Best:
  if not score < best.score:
    return best
  return best._replace(
    outer_step=np.array(outer_step, np.int64),
    score=np.array(score),
    theta=np.asarray(theta),
  )


def _save(
  parts: training.Parts,
  state: Saved,
  template: Saved,
  folder: run_folder.RunFolder | None,
) -> None:
  whole = saved.whole(parts, state, template)
  if folder is not None:
    folder.save(
      int(whole.outer.outer_step), whole, best=int(whole.best.outer_step)
    )


def _again() -> str:
  """Returns the command line of this start."""
  return shlex.join(["python", "-m", "meta_train", *sys.argv[1:]])


def _shortened(names) -> str:
  if len(names) <= 6:
    return ", ".join(names)
  return f"{', '.join(names[:4])} and {len(names) - 4} more families"
