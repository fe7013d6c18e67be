"""A whole run, top to bottom: meta-train, save, evaluate, report.

Main names: `run`.
"""

import dataclasses
import pathlib
import sys
from typing import Any

import jax
import numpy as np

import flt_lopt
from meta_train.config import MetaTrainConfig
from meta_train.engine import outer_optimizer, training
from meta_train.engine.processes import Group
from meta_train.evaluation import evaluate
from meta_train.evaluation.problems import check_validation, load_problems
from meta_train.reports import report, report_files
from meta_train.run import environment, machine, run_folder, run_record
from meta_train.run.loop import train
from meta_train.run.run_folder import WEIGHTS
from meta_train.run.saved import Best, Saved
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
  # Those that stay idle shape the numbers too: XLA splits work among all.
  used = {
    "devices": parts.loop.num_devices * group.size,
    "devices present": jax.device_count(),
  }
  with run_folder.open_run(config, command=sys.argv, used=used) as folder:
    state = train(parts, config, problems, folder)
    outer_step, flat = _result(config, state)
    theta = parts.unravel(flat)
    with folder.writing():
      flt_lopt.save(
        folder.path / WEIGHTS,
        parts.lopt.config,
        theta,
        _provenance(config, problems, state.best),
      )
      if config.evaluate:
        _evaluate(config, parts, problems, theta, folder.path, outer_step)
      if config.evaluate or config.report_every:
        report.write_report(folder.path)
  group.scatter([b""] * group.size)
  _finish(config, parts, state.best)


def _common(config: MetaTrainConfig) -> dict[str, Any]:
  """Returns the settings that all processes must share."""
  own = {"run_dir", "process_id", "coordinator_address", "num_processes"}
  own |= {"compilation_cache_dir", "report_every", "evaluate"}
  settings = dataclasses.asdict(config)
  return {name: x for name, x in settings.items() if name not in own}


def _result(config: MetaTrainConfig, state: Saved) -> tuple[int, Any]:
  """Returns the flat theta that is the result, and the outer steps it took."""
  end = int(state.outer.outer_step), state.outer.average
  if config.result != "best":
    return end
  best = state.best
  if not np.isfinite(best.score):
    say(
      "warning: --result=best, but there is no validation score; the result is "
      "the running average at the end"
    )
    return end
  if not best.outer_step and end[0]:
    say(
      "warning: no validation score was better than that of the theta which "
      f"the run began with, {float(best.score):+.4g}; the result is that one"
    )
  return int(best.outer_step), np.asarray(best.theta)


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
  if not np.isfinite(best.score):
    return None
  return {"outer_step": int(best.outer_step), "score": float(best.score)}


def _evaluate(
  config, parts, problems, theta, path: pathlib.Path, outer_step: int
) -> None:
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
    outer_step=outer_step,
    devices=machine.devices(config.num_devices),
    on_group=lambda text: say(f"  {text}"),
  )


def _finish(config: MetaTrainConfig, parts: training.Parts, best: Best) -> None:
  """Prints the result, where it is, and what to do next."""
  folder = pathlib.Path(config.folder)
  if config.result == "best" and np.isfinite(best.score):
    say(
      f"result     after outer step {int(best.outer_step)}, validation score "
      f"{float(best.score):+.4g}",
      sys.stdout,
    )
  for sentence in report.headlines(folder) if config.evaluate else ():
    say(sentence, sys.stdout)
  made = [("optimizer", WEIGHTS)]
  if config.evaluate or config.report_every:  # Else they may be older ones.
    made += [("pictures ", report.PICTURES), ("report   ", report.REPORT)]
  for what, name in made:
    if (folder / name).exists():
      say(f"{what}  {folder / name}", sys.stdout)
  if config.outer_steps:
    command = report_files.next_command(report_files.read_run(folder))
    clause = outer_optimizer.on_going_on(config, parts.loop.phases[-1])
    how = f" ({clause})" if clause else ""
    say(f"next: as long again, from here{how}: {command}", sys.stdout)


def _names(problems) -> str:
  return ", ".join(problem.name for problem in problems)
