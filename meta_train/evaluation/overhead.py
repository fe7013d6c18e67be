"""What an optimizer costs: seconds of a training step, beside optax.adam's.

A step is loss, gradient and update of one run, within one compiled scan. The
fastest of several repetitions counts, since everything else on the machine
can only slow one down. Repetitions of Adam are taken in turns with those of
the optimizer, so that both meet the same machine, and their times stay
together in one row: a ratio is never of two measurements at different times.

Names: `measure`, `picked`, `ADAM`, `REQUIRED`.
"""

import functools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import optax

from meta_train.errors import UserError
from meta_train.evaluation import jobs
from meta_train.evaluation.candidates import Candidate, Variant
from meta_train.evaluation.definition import digest
from meta_train.evaluation.evaluate import blame_user, group_name
from meta_train.evaluation.run_rows import cost
from meta_train.evaluation.updating import update
from meta_train.rows import Row
from tasks.hosted import hosted_task

_STEPS = 50
_REPETITIONS = 5
#: Fields of all rows, beside those of all jobs.
REQUIRED = ("task", "optimizer", "step_s", "adam_step_s") + (
  "parameters",
  "state_bytes",
)
#: What all others are measured beside.
ADAM = Candidate(
  name="adam",
  variants=(Variant("adam", "baseline"),),
  make_tx=lambda hyper, num_steps: optax.adam(1e-3),
  hyper=np.zeros(1),  # Not of jax, which would start on import.
  fingerprint=digest("optax.adam"),
)


def picked(tasks: Sequence[Any], count: int) -> list[Any]:
  """Returns some tasks, evenly by their number of parameters, in this order.

  Args:
    tasks: to pick from.
    count: how many, at most.
  """
  sizes = {task.name: cost(task, ADAM, 1)["parameters"] for task in tasks}
  ordered = sorted(tasks, key=lambda task: sizes[task.name])
  count = min(count, len(ordered))
  ends = [-(-(i + 1) * len(ordered) // count) for i in range(count)]
  return [ordered[end - 1] for end in ends]


def measure(
  tasks: Sequence[Any],
  candidates: Sequence[Candidate],
  path: str | os.PathLike,
  *,
  num_steps: int,
  devices: jobs.Devices | None = None,
  on_job: Callable[[str], None] = lambda what: None,
  on_failure: Callable[[jobs.Job, UserError], None] | None = None,
) -> list[Row]:
  """Measures seconds per step of optimizers on tasks.

  Args:
    tasks: the tasks, see `picked`.
    candidates: optimizers; Adam is measured beside each.
    path: file of rows; those of other optimizers, or on other tasks, are kept.
    num_steps: what optimizers are told that a run has.
    devices: it is measured on the first; `None`: all local ones.
    on_job: called with a line of text before each measurement.
    on_failure: as for `jobs.run_jobs`.

  Returns:
    The rows that are now in the file.
  """
  anew = {
    (task.name, candidate.variants[0].optimizer)
    for task in tasks
    for candidate in candidates
  }
  # Compiled when first run, and once for all optimizers on a task.
  adams = {
    task.name: functools.cache(
      functools.partial(_compiled, task, ADAM, num_steps)
    )
    for task in tasks
  }
  return jobs.run_jobs(
    [
      blame_user(
        jobs.Job(
          group=group_name(task, candidate, ["beside adam", num_steps]),
          what=f"{task.name}: seconds per step of {candidate.name}",
          run=functools.partial(
            _rows, task, candidate, num_steps, adams[task.name]
          ),
        ),
        candidate,
      )
      for task in tasks
      for candidate in candidates
    ],
    path,
    keep=lambda row: (row.get("task"), row.get("optimizer")) not in anew,
    required=REQUIRED,
    devices=devices,
    on_job=on_job,
    on_failure=on_failure,
  )


def _rows(task, candidate, num_steps, make_adam, devices) -> list[Row]:
  with jax.default_device(devices[0]):
    seconds, adam = _step_seconds(
      (_compiled(task, candidate, num_steps), make_adam())
    )
  return [
    {
      "task": task.name,
      "optimizer": candidate.variants[0].optimizer,
      "seed": None,
      "setting": None,
      "step_s": seconds,
      "adam_step_s": adam,
      "device": devices[0].device_kind,
      **cost(task, candidate, num_steps),
    }
  ]


def _step_seconds(runs: Sequence[Callable[[], Any]]) -> list[float]:
  """Returns the seconds of a step of each, run in turns."""
  times_s: list[list[float]] = [[] for _ in runs]
  for _ in range(_REPETITIONS):
    for run, found in zip(runs, times_s):
      begin = time.perf_counter()
      jax.block_until_ready(run())
      found.append(time.perf_counter() - begin)
  return [min(found) / _STEPS for found in times_s]


def _compiled(
  task: Any, candidate: Candidate, num_steps: int
) -> Callable[[], Any]:
  """Returns a function that does `_STEPS` steps, compiled and run once."""
  task = hosted_task(task)
  hyper = jax.tree.map(lambda x: x[0], candidate.hyper)
  tx = candidate.make_tx(hyper, num_steps)

  def step(carry, key):
    params, model_state, state = carry
    (loss, model_state), gradient = jax.value_and_grad(
      task.loss_with_state, has_aux=True
    )(params, model_state, key, None)
    updates, state = update(tx, gradient, state, params, value=loss)
    return (optax.apply_updates(params, updates), model_state, state), loss

  @jax.jit
  def run(carry, key):
    return jax.lax.scan(step, carry, jax.random.split(key, _STEPS))

  @jax.jit
  def start(key):
    params, model_state = task.init_with_state(key)
    return params, model_state, tx.init(params)

  key = jax.random.key(0)
  carry = start(key)
  jax.block_until_ready(run(carry, key))
  return functools.partial(run, carry, key)
