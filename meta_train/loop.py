"""A whole run, top to bottom: meta-train, save, evaluate, report.

Main names: `run`, `train`.
"""

import collections
import pathlib
import shlex
import sys
import time
from typing import Any

import numpy as np
from jax.flatten_util import ravel_pytree

import flt_lopt
from meta_train import (
  environment,
  evaluate,
  report,
  run_folder,
  tensorboard,
  training,
)
from meta_train.config import MetaTrainConfig, options
from meta_train.outer import OuterState, StepMetrics
from meta_train.progress import Progress
from meta_train.run_folder import WEIGHTS


def run(config: MetaTrainConfig) -> None:
  """Does what the settings say, continuing where an earlier start stopped.

  Args:
    config: the settings. The result is in `config.folder`.

  Raises:
    UserError: for anything the user can mend; files are left as they were.
  """
  problems = training.load_problems(config)
  parts = training.build(config, problems.train)
  with run_folder.open_run(config, command=sys.argv) as folder:
    _say(
      f"meta-training on {_names(problems.train)}: {config.outer_steps} outer "
      f"steps of {parts.inner_steps} inner steps; {folder.path}"
    )
    state = train(parts, config, folder)
    theta = parts.unravel(state.average)
    flt_lopt.save(
      folder.path / WEIGHTS,
      parts.lopt.config,
      theta,
      _provenance(config, problems),
    )
    if config.evaluate:
      _evaluate(config, parts, problems, theta, folder.path)
  _finish(config)


def train(
  parts: training.Parts, config: MetaTrainConfig, folder: run_folder.RunFolder
) -> OuterState:
  """Takes outer steps until `config.outer_steps`, from the last checkpoint.

  Args:
    parts: the parts of the run.
    config: the settings.
    folder: the open run folder; rows and checkpoints go there.

  Returns:
    The state after the last outer step.
  """
  start, _ = ravel_pytree(parts.theta)
  outer_step, state = folder.restore(parts.loop.init(start))
  state = parts.loop.place(state)
  pending: list[StepMetrics] = []
  recent: collections.deque[float] = collections.deque(maxlen=50)
  since_s = time.monotonic()
  with (
    Progress(
      total=config.outer_steps, done=outer_step, inner_steps=parts.inner_steps
    ) as progress,
    tensorboard.open_writer(folder.path, wanted=config.tensorboard) as write,
  ):
    while outer_step < config.outer_steps:
      state, metrics = parts.loop.step(state)
      outer_step += 1
      pending.append(metrics)
      last = outer_step == config.outer_steps
      if outer_step % config.log_every == 0 or last:
        now_s = time.monotonic()
        row = _row(outer_step, parts.inner_steps, pending, now_s - since_s)
        folder.metrics.append(**row)
        write(row)
        pending, since_s = [], now_s
      if outer_step % config.checkpoint_every == 0 or last:
        folder.save(outer_step, state)
      recent.append(metrics.meta_loss)
      progress.update(outer_step, meta_loss=np.mean(recent))
  if recent and metrics.diverged_fraction == 1.0:
    _say(
      "warning: at the end every inner run had diverged, so the optimizer has "
      "learned nothing from them; is the task's loss finite at its start?"
    )
  return state


def _row(
  outer_step: int, inner_steps: int, metrics: list[StepMetrics], wall_s: float
) -> dict[str, Any]:
  """Returns the row of the outer steps since the last one, their means."""
  means = {
    name: float(np.mean([getattr(m, name) for m in metrics]))
    for name in StepMetrics._fields
    if not name.startswith("famil")
  }
  return {
    "outer_step": outer_step,
    **means,
    "inner_steps": outer_step * inner_steps,
    "inner_steps_per_s": len(metrics) * inner_steps / max(wall_s, 1e-9),
    "wall_s": wall_s,
  }


def _provenance(config: MetaTrainConfig, problems) -> dict[str, Any]:
  described = environment.describe(seed=config.seed, command=sys.argv)
  kept = ("seed", "versions", "backend", "git_revision")
  return {
    "task_suite": config.task_suite,
    "tasks": [family.name for family in problems.train],
    "outer_steps": config.outer_steps,
    "settings": run_folder.fixed_part(config),
    **{name: described[name] for name in kept},
  }


def _evaluate(config, parts, problems, theta, path: pathlib.Path) -> None:
  _say(
    f"evaluating on {_names(problems.held_out)}: {config.eval_seeds} seeds, "
    f"{config.eval_steps} steps"
  )
  evaluate.evaluate_run(
    path,
    problems.held_out,
    parts.lopt,
    theta,
    parts.theta,
    num_steps=config.eval_steps,
    num_seeds=config.eval_seeds,
    on_group=lambda text: _say(f"  {text}"),
  )
  report.write_report(path)


def _finish(config: MetaTrainConfig) -> None:
  """Prints the result, where it is, and what to do next."""
  folder = pathlib.Path(config.folder)
  for sentence in report.headlines(folder) if config.evaluate else ():
    print(sentence)
  for what, name in (
    ("optimizer", WEIGHTS),
    ("pictures ", report.PICTURES),
    ("report   ", report.REPORT),
  ):
    if (folder / name).exists():
      print(f"{what}  {folder / name}")
  command = [
    *("python", "-m", "meta_train"),
    *_given(config),
    f"--outer_steps={max(1, 2 * config.outer_steps)}",
  ]
  print(f"next: as long again, from here: {shlex.join(command)}")


def _given(config: MetaTrainConfig) -> list[str]:
  """Returns the flags that make this run, but for its length."""
  default = MetaTrainConfig()
  flags = [f"--task_suite={config.task_suite}"] if not config.task else []
  for field in options():
    name, value = field.name, getattr(config, field.name)
    if name in ("task_suite", "outer_steps") or value == getattr(default, name):
      continue
    if isinstance(value, bool):
      flags.append(f"--{name}" if value else f"--no{name}")
    else:
      flags.append(f"--{name}={value}")
  return flags


def _names(problems) -> str:
  return ", ".join(problem.name for problem in problems)


def _say(text: str) -> None:
  print(text, file=sys.stderr, flush=True)
