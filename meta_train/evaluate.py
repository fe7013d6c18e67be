"""`python -m meta_train.evaluate`: optimizers on a suite of tasks.

Evaluates weights of ours (by shipped name or file) and optimizers of anybody
(module:factory) on every task of a suite, puts the tuned baselines beside
them, and writes rows, tables, pictures and a page into one folder.

Main names: `main`, `EvaluateConfig`.
"""

import dataclasses
import functools
import sys
import time
from collections.abc import Sequence
from typing import Any

from meta_train.command import command_line, shared_options
from meta_train.command.options import check_bounds, option
from meta_train.command.program import run_program
from meta_train.errors import UserError
from meta_train.terminal import say


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
  """The flags of the program.

  Raises:
    UserError: at construction, for a value out of its range.
  """

  weights: str = option(
    "",
    "names of shipped weights, or files of weights, separated by commas",
    group="What to evaluate",
  )
  untrained: bool = option(
    False,
    "evaluate the optimizers of --weights at their initialisation too: what "
    "has meta-training achieved?",
  )
  optimizer: str = option(
    "",
    "optimizers of your own, separated by commas: module:factory, where "
    "factory(num_steps=...) returns an optax transformation",
  )
  task_suite: str = option(
    "held_out_small",
    "suite whose held-out (or else validation) tasks to evaluate on, or a Task "
    "or TaskFamily of your own, written module:Name (with --compute_baselines, "
    "since none ship for it)",
  )
  tasks: str = shared_options.chosen_tasks()
  sweep: str = option(
    "",
    "instead of the plain evaluation these sweeps, separated by commas: "
    "horizon, width, batch_size, told_steps, loss_scale, dtype, outliers",
  )
  steps: int = shared_options.run_steps()
  seeds: int = shared_options.run_seeds()
  baselines: str = option(
    "",
    "hand-designed optimizers to compare with, separated by commas; none; "
    "empty: all (in sweeps, adam)",
    group="What to compare with",
  )
  compute_baselines: bool = option(
    False,
    "compute baselines that don't ship with the package for these tasks, "
    "steps and seeds; it takes much longer than the rest",
  )
  overhead_tasks: int = option(
    3,
    "tasks, from small to large, on which to measure time per step",
    unit="tasks",
    low=0,
  )
  folder: str = option(
    "",
    "where rows and report go, beside those of earlier evaluations of the "
    "same suite; empty: runs/evaluation-SUITE",
    group="The machine",
  )
  data_dir: str = shared_options.data_dir()
  num_devices: int = shared_options.num_devices()
  compilation_cache_dir: str = shared_options.compilation_cache_dir()

  def __post_init__(self) -> None:
    check_bounds(self)


PROGRAM = command_line.Program(
  name="python -m meta_train.evaluate",
  config=EvaluateConfig,
  actions={"help": "show this text"},
)


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line and returns the exit code.

  Args:
    arguments: without the program's name; None: those of this process.
  """
  return run_program(
    PROGRAM,
    run,
    arguments,
    summary="Evaluates optimizers on a suite of tasks and writes a report.",
  )


def run(config: EvaluateConfig) -> None:
  """Does what the flags say.

  Args:
    config: the flags.

  Raises:
    UserError: for anything the user can mend.
  """
  from meta_train.evaluation import folder_lock
  from meta_train.run import machine

  machine.set_up(config.num_devices, config.compilation_cache_dir)
  plan = _plan(config)
  path = config.folder or default_folder(config.task_suite)
  with folder_lock.hold(path):
    _run_in(path, plan, config)


def default_folder(task_suite: str) -> str:
  """Returns the folder of an evaluation whose user names none.

  Args:
    task_suite: the suite, or module:Name.
  """
  return f"runs/evaluation-{task_suite.replace(':', '-')}"


def _run_in(path: str, plan: Any, config: EvaluateConfig) -> None:
  from meta_train.evaluation import evaluation_folder, jobs, overhead
  from meta_train.evaluation.evaluation_plan import (
    baseline_jobs,
    lacking_baselines,
    make_jobs,
    shipped_baselines,
  )
  from meta_train.reports import report_parts, suite_report
  from meta_train.rows import read_rows
  from meta_train.run import machine

  devices = machine.devices(config.num_devices)
  folder = evaluation_folder.open_folder(
    path,
    suite=config.task_suite,
    num_steps=config.steps,
    num_seeds=config.seeds,
  )
  costed = _costed(plan, config)
  for name in folder.announce(plan, config, costed):
    say(
      f"rows of {name} (other weights, or of another version) are replaced on "
      "these tasks"
    )
  names = [task.name for task in plan.tasks]
  there = read_rows(folder.rows, required=evaluation_folder.REQUIRED).rows
  for sentence in report_parts.grouped(lacking_baselines(plan, there), names):
    say(f"warning: {sentence}")
  todo, problems = make_jobs(plan)
  progress = _Progress()
  failures: dict[str, UserError] = {}

  def on_failure(job: jobs.Job, error: UserError) -> None:
    say(str(error))
    failures[job.group] = error

  def compute(part, todo):
    progress.total = len(todo)
    return jobs.run_jobs(
      todo,
      folder.rows,
      keep=evaluation_folder.not_replaced(part),
      required=evaluation_folder.REQUIRED,
      devices=devices,
      side_by_side=True,
      on_job=progress,
      on_failure=on_failure,
    )

  # What was computed of the baselines stays until it is known what ships.
  rows = compute(plan._replace(compute_baselines=False), todo)
  if plan.compute_baselines:
    able = [job for job in todo if job.group not in failures]
    rows = compute(plan, [*able, *baseline_jobs(plan, rows)])
  shipped, refused = shipped_baselines(plan, rows)
  folder.add_shipped(shipped)
  if costed[0]:
    overhead.measure(
      *costed,
      folder.overhead,
      num_steps=plan.num_steps,
      devices=devices,
      on_job=say,
      on_failure=on_failure,
    )
  folder.finish(plan, [*problems, *refused])
  page = suite_report.write_report(folder.path)
  for sentence in suite_report.headlines(folder.path):
    print(sentence)
  print(f"rows    {folder.rows}\nreport  {page}")
  if failures:
    first = next(iter(failures.values()))
    raise UserError(
      f"jobs that failed and are missing from the report: {len(failures)}, the "
      f"first: {first}; mend it, and the same command continues with what is "
      "missing"
    )


def _plan(config: EvaluateConfig) -> Any:
  from meta_train.evaluation import baselines, evaluation_plan, problems, sweeps
  from meta_train.evaluation.candidates import (
    untrained_candidate,
    weights_candidate,
  )
  from meta_train.evaluation.user_optimizers import user_candidate

  candidates: list[Any] = []
  own = functools.partial(user_candidate, num_steps=config.steps)
  for make, names in (
    (weights_candidate, config.weights),
    (own, config.optimizer),
  ):
    for name in shared_options.split_names(names):
      taken = [candidate.name for candidate in candidates]
      taken += baselines.list_baselines()
      candidates.append(make(name, taken))
  if config.untrained:
    candidates += [
      untrained_candidate(each) for each in candidates if each.source
    ]
  if not candidates:
    raise UserError(
      "there is nothing to evaluate; name --weights=flt-quick, a weights file, "
      "or an --optimizer=module:factory"
    )
  if config.untrained and not config.weights:
    raise UserError(
      "--untrained is of the optimizers of --weights, and there are none; name "
      "--weights=flt-quick or a weights file too, or leave --untrained out"
    )
  settings = [
    setting
    for name in shared_options.split_names(config.sweep)
    for setting in sweeps.make_sweep(name)
  ]
  return evaluation_plan.Plan(
    tasks=problems.choose_tasks(
      config.task_suite, names=config.tasks, data_dir=config.data_dir
    ),
    candidates=candidates,
    baselines=_baselines(config),
    settings=settings,
    num_steps=config.steps,
    num_seeds=config.seeds,
    compute_baselines=config.compute_baselines,
    options={},
  )


def _baselines(config: EvaluateConfig) -> list[Any]:
  from meta_train.evaluation.evaluation_plan import SWEEP_BASELINE
  from meta_train.make_baselines import choose_baselines

  if config.baselines == "none":
    return []
  names = config.baselines
  if config.sweep and not names:
    names = SWEEP_BASELINE
  return choose_baselines(names)


def _costed(plan, config: EvaluateConfig) -> tuple[list[Any], list[Any]]:
  """Returns the tasks and optimizers of which to measure time per step."""
  from meta_train.evaluation import overhead
  from meta_train.evaluation.candidates import baseline_candidate

  if plan.settings or not config.overhead_tasks:
    return [], []
  others = [
    candidate
    for candidate in plan.candidates
    if candidate.variants[0].role != "untrained"
  ]
  baselines = [
    baseline_candidate(each)
    for each in plan.baselines
    if each.name != overhead.ADAM.name
  ]
  return (
    overhead.picked(plan.tasks, config.overhead_tasks),
    [overhead.ADAM, *others, *baselines],
  )


class _Progress:
  """Prints a line for each job, with its number and the time so far."""

  def __init__(self) -> None:
    self.total = 0
    self._done = 0
    self._begin_s = time.monotonic()

  def __call__(self, what: str) -> None:
    self._done += 1
    passed = time.monotonic() - self._begin_s
    say(f"[{self._done} of at most {self.total}, {passed:.0f} s] {what}")


if __name__ == "__main__":
  sys.exit(main())
