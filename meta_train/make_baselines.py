"""`python -m meta_train.make_baselines`: tunes and runs all baselines.

Each task's results are a file, which is written anew after every baseline, so
that the same command continues after a kill with the next one. What a file
holds is left alone where task and grid are unchanged, and the rows have all
that is measured today. Where a grid has grown, only its new rates are run, and
the best one, if it is new.

Main names: `main`, `make`.
"""

import dataclasses
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from meta_train.command import command_line, shared_options
from meta_train.command.options import check_bounds, option
from meta_train.command.program import run_program
from meta_train.errors import UserError
from meta_train.evaluation import baseline_files, baselines, protocol
from meta_train.rows import Row
from meta_train.terminal import say


@dataclasses.dataclass(frozen=True)
class MakeBaselinesConfig:
  """The flags of the program."""

  task_suite: str = option(
    "held_out_small",
    "suite whose held-out (or else validation) tasks get baselines",
    group="What to compute",
  )
  tasks: str = shared_options.chosen_tasks()
  baselines: str = option(
    "", "only these baselines, separated by commas; empty: all"
  )
  steps: int = shared_options.run_steps()
  seeds: int = shared_options.run_seeds()
  reference_steps: int = option(
    0,
    "at least so many steps of Adam, so that speed-ups up to this over --steps "
    "are known; 0: twice --steps",
    unit="inner steps",
    low=0,
  )
  folder: str = option(
    "", "where to write; empty: into the package", group="The machine"
  )
  data_dir: str = shared_options.data_dir()
  num_devices: int = shared_options.num_devices()
  compilation_cache_dir: str = shared_options.compilation_cache_dir()

  def __post_init__(self) -> None:
    check_bounds(self)


PROGRAM = command_line.Program(
  name=baseline_files.REMAKE,
  config=MakeBaselinesConfig,
  actions={"help": "show this text"},
)


def make(
  tasks: Iterable[Any],
  wanted: Sequence[baselines.Baseline],
  folder: pathlib.Path,
  *,
  num_steps: int,
  num_seeds: int,
  provenance: dict[str, Any],
  reference_steps: int = 0,
  on_job: Callable[[str], None] = print,
  devices: Sequence[Any] | None = None,
  **options: Any,
) -> None:
  """Computes what the files in a folder lack.

  Args:
    tasks: inner tasks.
    wanted: baselines.
    folder: of the files.
    num_steps: inner steps of a run.
    num_seeds: runs to compare on.
    provenance: written into the files that change.
    reference_steps: of the reference at least; 0: `BEYOND` times `num_steps`.
    on_job: called with a line of text before each baseline of a task.
    devices: they share the runs; `None`: all local ones.
    **options: passed to `evaluate.run_curves`.
  """
  import jax

  from meta_train.evaluation import baseline_runs
  from meta_train.evaluation.curves import NUM_FINAL_BATCHES, measures

  devices = jax.local_devices() if devices is None else devices
  for task in tasks:
    path = baseline_files.path_of(task, folder)
    same = baseline_files.protocol(
      task,
      num_steps=num_steps,
      num_seeds=num_seeds,
      num_final_batches=options.get("num_final_batches", NUM_FINAL_BATCHES),
    )
    done, history, rows = _done(path, same)
    there = history["reference_steps"]
    least = max(reference_steps, same["reference_steps"])
    measured_today = measures(task) if done else set()
    for baseline in wanted:
      is_reference = baseline.name == baseline_runs.REFERENCE
      measured = baseline_files.fingerprint(baseline)
      known = _known(baseline, done, history, rows, measured_today)
      is_long = there >= least or not is_reference
      if known and is_long and done[baseline.name] == measured:
        continue
      steps = max(least, there)
      job = baseline_runs.baseline_job(
        task,
        baseline,
        num_steps=num_steps,
        seeds=range(num_seeds),
        reference_steps=steps,
        known=known,
        **options,
      )
      on_job(job.what)
      begin = time.monotonic()
      made = job.run(devices)
      took = {"wall_s": round(time.monotonic() - begin, 1), **provenance}
      done[baseline.name] = measured
      history["actions"][baseline.name] = baseline_runs.action(baseline)
      history["provenance"][baseline.name] = took
      if is_reference:
        history["reference_steps"] = steps
      rows = [row for row in rows if row["optimizer"] != baseline.name] + made
      baseline_files.write(
        path,
        baseline_files.ResultsFile(
          {**same, "baselines": done, **history}, rows
        ),
      )


def _done(path: pathlib.Path, same: dict[str, Any]):
  """Returns what a file of the same protocol holds.

  Returns:
    Fingerprints of the baselines, what else the header tells of them, rows.
  """
  empty = {
    "actions": {},
    "provenance": {},
    "reference_steps": same["reference_steps"],
  }
  results = baseline_files.load(path)
  if results is None or any(
    results.header.get(name) != value
    for name, value in same.items()
    if name not in empty
  ):
    return {}, empty, []
  header = results.header
  done = dict(header.get("baselines", {}))
  history = {
    field: {
      name: value
      for name, value in header.get(field, {}).items()
      if name in done
    }
    for field in ("actions", "provenance")
  }
  steps = header.get("reference_steps", 0)
  return done, {**history, "reference_steps": steps}, results.rows


def _known(
  baseline: baselines.Baseline,
  done: dict[str, Any],
  history: dict[str, Any],
  rows: Sequence[Row],
  wanted: set[str],
) -> list[Row]:
  """Returns the rows of a baseline that need not be made anew.

  Args:
    baseline: as it is today.
    done: fingerprints of those that were measured.
    history: what else is told of them.
    rows: of all baselines.
    wanted: what is measured today.
  """
  from meta_train.evaluation import baseline_runs

  definition, _ = baseline_files.fingerprint(baseline)
  before, rates = done.get(baseline.name, (None, ()))
  if before != definition:
    return []
  as_it_was = dataclasses.replace(baseline, rates=tuple(rates))
  if not baseline_runs.acts_as(as_it_was, history["actions"][baseline.name]):
    return []
  mine = [row for row in rows if row["optimizer"] == baseline.name]
  whole = all(
    wanted <= set(measured)
    for row in mine
    for measured in row["final"].values()
  )
  return mine if whole else []


def _run(config: MakeBaselinesConfig) -> None:
  from meta_train.evaluation import folder_lock, problems
  from meta_train.run import environment, machine

  _check_shipped(config)
  machine.set_up(config.num_devices, config.compilation_cache_dir)
  described = environment.describe(seed=0, command=sys.argv)
  kept = ["started", "platform", "cpu_count", "backend", "device_kind"]
  kept += ["versions", "git_revision"]
  tasks = problems.choose_tasks(
    config.task_suite, names=config.tasks, data_dir=config.data_dir
  )
  wanted = choose_baselines(config.baselines)
  folder = pathlib.Path(config.folder or baseline_files.FOLDER).expanduser()
  with folder_lock.hold(folder):
    _check_kept(tasks, folder, num_steps=config.steps, num_seeds=config.seeds)
    make(
      tasks,
      wanted,
      folder,
      num_steps=config.steps,
      num_seeds=config.seeds,
      reference_steps=config.reference_steps,
      provenance={name: described[name] for name in kept},
      on_job=say,
      devices=machine.devices(config.num_devices),
    )


def _check_shipped(config: MakeBaselinesConfig) -> None:
  """Refuses to put other runs in place of those that ship."""
  for flag, given, shipped in (
    ("steps", config.steps, protocol.NUM_STEPS),
    ("seeds", config.seeds, protocol.NUM_SEEDS),
  ):
    if given != shipped and not config.folder:
      raise UserError(
        f"--{flag}={given} would overwrite the package's own results, which "
        f"are of {shipped}; name a --folder for others"
      )


def _check_kept(
  tasks: Iterable[Any], folder: pathlib.Path, *, num_steps: int, num_seeds: int
) -> None:
  """Refuses to put other runs in place of those of a folder."""
  for task in tasks:
    path = baseline_files.path_of(task, folder)
    results = baseline_files.load(path)
    if results is None:
      continue
    kept_steps = results.header.get("num_steps")
    kept_seeds = len(results.header.get("seeds", ()))
    if (kept_steps, kept_seeds) != (num_steps, num_seeds):
      raise UserError(
        f"{path} holds runs of {kept_steps} steps and {kept_seeds} seeds, "
        f"which --steps={num_steps} --seeds={num_seeds} would replace; name "
        "another --folder"
      )


def choose_baselines(names: str) -> list[baselines.Baseline]:
  """Returns baselines by their names, separated by commas; empty: all.

  Raises:
    UserError: a name is unknown.
  """
  wanted = shared_options.split_names(names)
  try:
    return [
      baselines.get_baseline(name)
      for name in wanted or baselines.list_baselines()
    ]
  except ValueError as error:
    raise UserError(f"--baselines: {error}") from error


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line and returns the exit code.

  Args:
    arguments: without the program's name; None: those of this process.
  """
  return run_program(
    PROGRAM,
    _run,
    arguments,
    summary="Tunes and runs the baselines that optimizers are compared with.",
  )


if __name__ == "__main__":
  sys.exit(main())
