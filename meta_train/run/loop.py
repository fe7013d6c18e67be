"""A whole run, top to bottom: meta-train, save, evaluate, report.

Main names: `run`, `train`.
"""

import collections
import contextlib
import dataclasses
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

import flt_lopt
from meta_train.command import signals
from meta_train.config import MetaTrainConfig
from meta_train.engine import meter, training
from meta_train.engine.processes import Group
from meta_train.evaluation import evaluate
from meta_train.evaluation.problems import (
  Problems,
  check_validation,
  load_problems,
)
from meta_train.reports import report, report_files
from meta_train.run import (
  environment,
  machine,
  memory_maps,
  run_folder,
  run_record,
  saved,
  tensorboard,
)
from meta_train.run.live_report import LiveReport
from meta_train.run.progress import Progress
from meta_train.run.run_folder import WEIGHTS
from meta_train.run.saved import Best, Saved
from meta_train.run.validation import Validation
from meta_train.terminal import say


def run(config: MetaTrainConfig, group: Group | None = None) -> None:
  """Does what the settings say, continuing where an earlier start stopped.

  Args:
    config: the settings. The result is in `config.folder`.
    group: the processes of the run; None: only this one. The first of them
      alone writes files and evaluates.

  Raises:
    UserError: for anything the user can mend; files are left as they were.
    Stopped: the program was asked to end; all is saved.
  """
  group = group or Group()
  group.agree(_common(config))
  problems = load_problems(config)
  check_validation(config, problems)
  # Process 0 alone reads weights to begin with, and only then.
  begins = group.rank == 0 and not run_folder.has_checkpoint(config.folder)
  parts = training.build(config, problems.train, group, fresh=begins)
  if group.rank:
    train(parts, config, problems, None)
    group.scatter(())  # Until the first process has done the rest.
    return
  used = {"devices": parts.loop.num_devices * group.size}
  with run_folder.open_run(config, command=sys.argv, used=used) as folder:
    state = train(parts, config, problems, folder)
    theta = parts.unravel(_result(config, state))
    with folder.writing():
      flt_lopt.save(
        folder.path / WEIGHTS,
        parts.lopt.config,
        theta,
        _provenance(config, problems, state.best),
      )
      if config.evaluate:
        _evaluate(config, parts, problems, theta, folder.path)
      if config.evaluate or config.report_every:
        report.write_report(folder.path)
  group.scatter([b""] * group.size)
  _finish(config)


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
  validate = Validation(
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

    behind = stopping = False
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
    say(
      "warning: at the end every inner run had diverged, so the optimizer has "
      "learned nothing from them; is the task's loss finite at its start?"
    )
  return state


def _common(config: MetaTrainConfig) -> dict[str, Any]:
  """Returns the settings that all processes must share."""
  own = {"run_dir", "process_id", "coordinator_address", "num_processes"}
  own |= {"compilation_cache_dir", "report_every", "evaluate"}
  settings = dataclasses.asdict(config)
  return {name: x for name, x in settings.items() if name not in own}


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
  for text in training.cautions(config, parts.loop.phases):
    say(f"warning: {text}")
  if len(parts.names) > 4:
    say(
      f"compiling for {len(parts.names)} families, some seconds each; the "
      "programs are kept for later starts"
    )


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


def _validate(
  validate: Validation,
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
  outer_step, score = int(state.outer.outer_step), float(np.mean(gains))
  each = zip(validate.names, map(float, gains))
  row = {
    "outer_step": outer_step,
    "score": score,
    **{f"score/{name}": gain for name, gain in each},
  }
  if score < best.score:
    best = best._replace(
      outer_step=np.array(outer_step, np.int64),
      score=np.array(score),
      theta=np.asarray(theta),
    )
  return state._replace(best=best), row


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


def _result(config: MetaTrainConfig, state: Saved):
  if config.result != "best":
    return state.outer.average
  if state.best.outer_step:
    return np.asarray(state.best.theta)
  say(
    "warning: --result=best, but there is no validation score; the result is "
    "the running average at the end"
  )
  return state.outer.average


def _provenance(
  config: MetaTrainConfig, problems, best: Best
) -> dict[str, Any]:
  described = environment.describe(seed=config.seed, command=sys.argv)
  kept = ("seed", "versions", "backend", "git_revision")
  return {
    "task_suite": config.task_suite,
    "tasks": [family.name for family in problems.train],
    "outer_steps": config.outer_steps,
    "result": config.result,
    "validation": _validation_record(best),
    "settings": run_record.fixed_part(config),
    **{name: described[name] for name in kept},
  }


def _validation_record(best: Best) -> dict[str, Any] | None:
  if not best.outer_step:
    return None
  return {"outer_step": int(best.outer_step), "score": float(best.score)}


def _evaluate(config, parts, problems, theta, path: pathlib.Path) -> None:
  say(
    f"evaluating on {_names(problems.held_out)}: {config.eval_seeds} seeds, "
    f"{config.eval_steps} steps"
  )
  evaluate.evaluate_run(
    path,
    problems.held_out,
    parts.lopt,
    theta,
    parts.lopt.init(jax.random.key(0)),
    num_steps=config.eval_steps,
    num_seeds=config.eval_seeds,
    devices=machine.devices(config.num_devices),
    on_group=lambda text: say(f"  {text}"),
  )


def _finish(config: MetaTrainConfig) -> None:
  """Prints the result, where it is, and what to do next."""
  folder = pathlib.Path(config.folder)
  for sentence in report.headlines(folder) if config.evaluate else ():
    say(sentence, sys.stdout)
  for what, name in (
    ("optimizer", WEIGHTS),
    ("pictures ", report.PICTURES),
    ("report   ", report.REPORT),
  ):
    if (folder / name).exists():
      say(f"{what}  {folder / name}", sys.stdout)
  if config.outer_steps:
    command = report_files.next_command(report_files.read_run(folder))
    say(f"next: as long again, from here: {command}", sys.stdout)


def _again() -> str:
  """Returns the command line of this start."""
  return shlex.join(["python", "-m", "meta_train", *sys.argv[1:]])


def _shortened(names) -> str:
  if len(names) <= 6:
    return ", ".join(names)
  return f"{', '.join(names[:4])} and {len(names) - 4} more families"


def _names(problems) -> str:
  return ", ".join(problem.name for problem in problems)
