"""Evaluation: learned and hand-designed optimizers on the same inner tasks.

Idea: every optimizer trains every task from the same seeds, and each run
becomes one row in `evaluation.jsonl`, from which all tables and pictures are
made. Rows that are already there, from the same weights, task, steps and
seeds, are not computed again.

`python -m meta_train.evaluate --help` is the program on top of it;
`python -m meta_train` calls `evaluate_run` at the end of a run.

Names: `evaluate`, `evaluate_run`, `candidate_job`, `blame_user`,
`write_kernels`.
"""

import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key, PyTree

from meta_train.errors import UserError
from meta_train.evaluation import baselines as baselines_lib
from meta_train.evaluation import jobs, run_rows
from meta_train.evaluation.candidates import (
  Candidate,
  baseline_candidate,
  learned_candidate,
)
from meta_train.evaluation.curves import Curves, training_curves
from meta_train.evaluation.definition import definition, digest
from meta_train.rows import Row, write_json

FILE_NAME = "evaluation.jsonl"
KERNELS = "kernels.json"
# Keeps the keys of evaluation apart from those of meta-training.
_STREAM = 0x0E7A1
#: Learning rates of Adam at the end of a run of meta-training.
QUICK_RATES = baselines_lib.half_decades(-4, 7)


def seed_keys(seed: int, num_seeds: int | Sequence[int]) -> Key[Array, "seeds"]:
  """Returns the keys of runs; key i does not depend on how many there are.

  Args:
    seed: seed of the evaluation.
    num_seeds: number of runs, which are 0, 1, ...; or the runs' own numbers.

  Returns:
    One typed key per run.
  """
  numbers = range(num_seeds) if isinstance(num_seeds, int) else num_seeds
  base = jax.random.fold_in(jax.random.key(seed), _STREAM)
  return jax.vmap(lambda i: jax.random.fold_in(base, i))(
    jnp.asarray(list(numbers))
  )


def run_curves(
  task: Any,
  candidate: Candidate,
  *,
  num_steps: int,
  seeds: Sequence[int],
  seed: int = 0,
  told_steps: int | None = None,
  loss_scale: float = 1.0,
  **options: Any,
) -> Curves:
  """Trains with all variants of a candidate.

  Args:
    task: an inner task.
    candidate: the optimizers.
    num_steps: inner steps of a run.
    seeds: numbers of the runs.
    seed: seed of the evaluation.
    told_steps: what the optimizer is told that `num_steps` is; 0: it is told
      `None`; `None`: the truth.
    loss_scale: a factor in the task's losses, which is taken out of them.
    **options: passed to `training_curves`.
  """
  told = num_steps if told_steps is None else told_steps
  curves = training_curves(
    task,
    functools.partial(_make_tx, candidate, told or None),
    candidate.hyper,
    seed_keys(seed, seeds),
    num_steps=num_steps,
    eval_params=candidate.eval_params,
    **options,
  )
  return curves if loss_scale == 1.0 else _unscaled(curves, loss_scale)


def _unscaled(curves: Curves, scale: float) -> Curves:
  final = {
    split: {**measures, "loss": measures["loss"] / scale}
    for split, measures in curves.final.items()
  }
  beyond = None if curves.beyond is None else curves.beyond / scale
  return curves._replace(
    losses=curves.losses / scale, final=final, beyond=beyond
  )


def _make_tx(candidate, num_steps, hyper):
  return candidate.make_tx(hyper, num_steps)


def common_fields(
  task: Any,
  candidate: Candidate,
  num_steps: int,
  setting: dict[str, Any] | None = None,
) -> Row:
  """Returns the fields that all rows of a group share.

  Args:
    task: the task.
    candidate: the optimizer.
    num_steps: inner steps of a run.
    setting: what a sweep changed: `{"sweep": name, "value": value}`.
  """
  made_by = candidate.outer_step
  return {
    "format": run_rows.FORMAT,
    "task": task.name,
    "definition": definition(task),
    "num_steps": num_steps,
    "setting": setting,
    **({} if made_by is None else {"outer_step": made_by}),
    **run_rows.cost(task, candidate, num_steps),
  }


def group_name(task: Any, candidate: Candidate, *details: Any) -> str:
  """Returns a name that changes with whatever changes a group's rows.

  Args:
    task: the task.
    candidate: the optimizer.
    *details: all settings of the computation.
  """
  return digest(
    run_rows.FORMAT,
    definition(task),
    candidate.fingerprint,
    candidate.variants,
    details,
    [jax.__version__, optax.__version__, jax.default_backend()],
  )


def candidate_job(
  task: Any,
  candidate: Candidate,
  *,
  num_steps: int,
  seeds: Sequence[int],
  setting: dict[str, Any] | None = None,
  **options: Any,
) -> jobs.Job:
  """Makes the job of training a task with all variants of a candidate.

  Args:
    task: an inner task.
    candidate: the optimizers.
    num_steps: inner steps of a run.
    seeds: numbers of the runs.
    setting: see `common_fields`.
    **options: passed to `run_curves`.
  """

  def run(devices: jobs.Devices) -> list[Row]:
    curves = run_curves(
      task,
      candidate,
      num_steps=num_steps,
      seeds=seeds,
      devices=devices,
      **options,
    )
    common = {
      **common_fields(task, candidate, num_steps, setting),
      "fingerprint": candidate.fingerprint,
    }
    return list(run_rows.curve_rows(common, candidate.variants, seeds, curves))

  where = f", {setting['sweep']} {setting['value']}" if setting else ""
  count = len(candidate.variants)
  variants = f"{count} variants x " if count > 1 else ""
  job = jobs.Job(
    group=group_name(
      task, candidate, [num_steps, list(seeds), setting], options
    ),
    what=f"{task.name}: {candidate.name}{where}, "
    f"{variants}{len(seeds)} seeds x {num_steps} steps",
    run=run,
  )
  return blame_user(job, candidate)


def blame_user(job: jobs.Job, candidate: Candidate) -> jobs.Job:
  """Makes what goes wrong in a user's own optimizer theirs to mend.

  Args:
    job: runs the optimizer.
    candidate: the optimizer; only of a user's the errors become `UserError`.
  """
  if candidate.variants[0].role != "user":
    return job

  def run(devices: jobs.Devices) -> list[Row]:
    try:
      return job.run(devices)
    except Exception as error:
      raise UserError(
        f"{job.what} failed with {type(error).__name__}: {error}"
      ) from error

  return job._replace(run=run)


def evaluate(
  tasks: Iterable[Any],
  candidates: Sequence[Candidate],
  path: str | os.PathLike,
  *,
  num_steps: int,
  num_seeds: int = 16,
  devices: jobs.Devices | None = None,
  on_group: Callable[[str], None] = lambda message: None,
  **options: Any,
) -> list[Row]:
  """Runs every candidate on every task and writes one row per run.

  Args:
    tasks: inner tasks; see `tasks.base.Task`.
    candidates: optimizers; see `meta_train.evaluation.candidates`.
    path: file of rows. Rows in it from the same computation are kept, all
      others are dropped; it is replaced after each group of runs.
    num_steps: inner steps of a run.
    num_seeds: runs per task and variant.
    devices: they share the runs; `None`: all local ones.
    on_group: called with a line of text before each group is computed.
    **options: passed to `run_curves`.

  Returns:
    The rows that are now in the file.
  """
  return jobs.run_jobs(
    [
      candidate_job(
        task,
        candidate,
        num_steps=num_steps,
        seeds=range(num_seeds),
        **options,
      )
      for task in tasks
      for candidate in candidates
    ],
    path,
    devices=devices,
    on_job=on_group,
  )


def write_kernels(
  path: str | os.PathLike,
  optimizer: Any,
  theta: PyTree,
  untrained: PyTree,
  *,
  max_lag: int = 1000,
  outer_step: int | None = None,
) -> None:
  """Writes the learned weights over timesteps, before and after.

  Args:
    path: file to write; see `meta_train.reports.plots.kernels` for its content.
    optimizer: has `timestep_kernels(theta, lags)`, a dict of weights by name.
    theta: meta-trained parameters.
    untrained: meta-parameters at initialisation.
    max_lag: largest age in inner steps.
    outer_step: outer steps that made theta; `None`: not told.
  """
  lags = np.arange(max_lag + 1)
  initial, learned = (
    optimizer.timestep_kernels(which, jnp.asarray(lags, jnp.float32))
    for which in (untrained, theta)
  )

  def rounded(weights):
    return [float(f"{weight:.6g}") for weight in np.asarray(weights)]

  kernels = {
    name: {"initial": rounded(initial[name]), "learned": rounded(weights)}
    for name, weights in learned.items()
  }
  made_by = {} if outer_step is None else {"outer_step": outer_step}
  write_json(path, {**made_by, "lags": lags.tolist(), "kernels": kernels})


def evaluate_run(
  run_dir: str | os.PathLike,
  tasks: Iterable[Any],
  optimizer: Any,
  theta: PyTree,
  untrained: PyTree,
  *,
  num_steps: int,
  num_seeds: int = 16,
  outer_step: int | None = None,
  **options: Any,
) -> list[Row]:
  """Evaluates what a run has learned; writes the rows and the kernels.

  It is compared with Adam at seven constant learning rates.

  Args:
    run_dir: the run's folder.
    tasks: held-out tasks.
    optimizer: the learned optimizer; see `learned_candidate` and
      `write_kernels` for the methods it needs.
    theta: meta-trained parameters.
    untrained: meta-parameters at initialisation.
    num_steps: inner steps of an evaluation run.
    num_seeds: paired runs per task and optimizer.
    outer_step: outer steps that made theta, for its rows and the kernels;
      `None`: not told.
    **options: passed to `evaluate`.

  Returns:
    The rows in `evaluation.jsonl`.
  """
  run_dir = pathlib.Path(run_dir)
  adam = baselines_lib.get_baseline("adam", rates=QUICK_RATES)
  rows = evaluate(
    tasks,
    [
      learned_candidate(
        optimizer, theta, untrained=untrained, outer_step=outer_step
      ),
      baseline_candidate(adam),
    ],
    run_dir / FILE_NAME,
    num_steps=num_steps,
    num_seeds=num_seeds,
    **options,
  )
  write_kernels(
    run_dir / KERNELS, optimizer, theta, untrained, outer_step=outer_step
  )
  return rows
