"""What a run left in its folder, read for the report.

Idea: every file may be missing or damaged; each such thing becomes a sentence
and the rest is used.

Names: `RunFiles`, `read_run`, `reproduce_command`, `next_command`.
"""

import os
import pathlib
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from meta_train.evaluation.evaluate import FILE_NAME as EVALUATION
from meta_train.evaluation.evaluate import KERNELS
from meta_train.evaluation.row_checks import whole_rows
from meta_train.evaluation.summary import REQUIRED, TaskResults, summarize
from meta_train.rows import Row, read_json, read_rows
from meta_train.run import run_folder


class RunFiles(NamedTuple):
  """What a run folder holds.

  Attributes:
    path: the folder.
    config: settings by name.
    environment: versions, platform and the command line.
    metrics: rows of meta-training.
    validation: scores on the validation tasks.
    results: the evaluation, task by task.
    older: what to say of an evaluation, by task, and of the kernels, under
      `KERNELS`, where they are of other weights than the present ones.
    kernels: see `meta_train.reports.plots.kernels`; `None` if there are none.
    problems: a sentence for each thing that is missing or damaged.
  """

  path: pathlib.Path
  config: Mapping[str, Any]
  environment: Mapping[str, Any]
  metrics: list[Row]
  validation: list[Row]
  results: list[TaskResults]
  older: Mapping[str, str]
  kernels: Mapping[str, Any] | None
  problems: list[str]


def read_run(run_dir: str | os.PathLike) -> RunFiles:
  """Reads what a run left in its folder.

  Args:
    run_dir: the folder.

  Returns:
    Its content, with a sentence for each thing that is missing.
  """
  path = pathlib.Path(run_dir)
  config, config_problems = read_json(path / run_folder.CONFIG)
  environment, environment_problems = read_json(path / run_folder.ENVIRONMENT)
  metrics = read_rows(
    path / run_folder.METRICS, required=("outer_step", "meta_loss")
  )
  scores_file = path / run_folder.VALIDATION
  scores = read_rows(scores_file, required=("outer_step", "score"))
  if not scores_file.exists():  # Nobody asked for it.
    scores = scores._replace(problems=[])
  evaluation = read_rows(path / EVALUATION, required=REQUIRED)
  whole, damaged = whole_rows(evaluation.rows)
  results, gaps = summarize(whole)
  kernels, kernel_problems = read_json(
    path / KERNELS, required=("lags", "kernels")
  )
  settings = (config or {}).get("config", config or {})
  if not _is_evaluated(settings, metrics.rows):
    if not evaluation.rows:
      evaluation = evaluation._replace(problems=[])
    kernel_problems = kernel_problems if kernels else []
  return RunFiles(
    path=path,
    config=settings,
    environment=environment or {},
    metrics=metrics.rows,
    validation=scores.rows,
    results=results,
    older=_older(settings, metrics.rows, whole, kernels),
    kernels=kernels,
    problems=[
      *config_problems,
      *environment_problems,
      *metrics.problems,
      *scores.problems,
      *evaluation.problems,
      *damaged,
      *gaps,
      *kernel_problems,
    ],
  )


def _older(
  settings: Mapping[str, Any],
  metrics: list[Row],
  evaluation: list[Row],
  kernels: Mapping[str, Any] | None,
) -> dict[str, str]:
  """Returns what was made of weights of another outer step than the last."""
  done = max(
    (row["outer_step"] for row in metrics), default=settings.get("outer_steps")
  )
  made_by = {
    row["task"]: row.get("outer_step")
    for row in evaluation
    if row["role"] == "learned"
  }
  made_by[KERNELS] = (kernels or {}).get("outer_step")
  return {
    what: f"Of the weights after {step:,} outer steps; the run has done "
    f"{done:,}."
    for what, step in made_by.items()
    if isinstance(step, int) and isinstance(done, int) and step != done
  }


def _is_evaluated(settings: Mapping[str, Any], rows: list[Row]) -> bool:
  """Returns whether a run should have an evaluation by now."""
  done = max((row["outer_step"] for row in rows), default=0)
  return settings.get("evaluate", True) and not (
    rows and done < settings.get("outer_steps", 0)
  )


def reproduce_command(run: RunFiles) -> str:
  """Returns the command line that makes the run again.

  Args:
    run: what the run's folder holds.

  Returns:
    Text for a shell.
  """
  command = run.environment.get("command")
  if isinstance(command, list) and command:
    program, *flags = map(str, command)
    if pathlib.PurePath(program).name == "__main__.py":
      return shlex.join(["python", "-m", "meta_train", *flags])
    return shlex.join([program, *flags])
  suite = run.config.get("task_suite", "quick")
  return f"python -m meta_train --task_suite={shlex.quote(str(suite))}"


def next_command(run: RunFiles) -> str:
  """Returns the command line that continues the run for as long again.

  Args:
    run: what the run's folder holds.

  Returns:
    Text for a shell.
  """
  done = run.config.get("outer_steps") or 0
  words = shlex.split(reproduce_command(run))
  kept = [word for word in words if "outer_steps=" not in word]
  return shlex.join([*kept, f"--outer_steps={2 * int(done)}"])
