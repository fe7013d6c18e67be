"""What an optimizer costs: seconds of a training step, beside optax.adam's.

A step is loss, gradient and update of one run, within one compiled scan. The
fastest of several repetitions counts, since everything else on the machine
can only slow one down.

Names: `measure`, `step_seconds`.
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
from meta_train.rows import Row
from tasks.hosted import hosted_task

_STEPS = 50
_REPETITIONS = 5
_ADAM = Candidate(
  name="adam",
  variants=(Variant("adam", "baseline"),),
  make_tx=lambda hyper, num_steps: optax.adam(1e-3),
  hyper=np.zeros(1),  # Not of jax, which would start on import.
  fingerprint=digest("optax.adam"),
)


def measure(
  tasks: Sequence[Any],
  candidates: Sequence[Candidate],
  path: str | os.PathLike,
  *,
  num_tasks: int,
  num_steps: int,
  devices: jobs.Devices | None = None,
  on_job: Callable[[str], None] = lambda what: None,
  on_failure: Callable[[jobs.Job, UserError], None] | None = None,
) -> list[Row]:
  """Measures seconds per step on some tasks from small to large.

  Args:
    tasks: to pick from, evenly by number of parameters.
    candidates: optimizers; Adam is measured beside them.
    path: file of rows; those of other optimizers, or on tasks that are not
      picked, are kept.
    num_tasks: tasks to pick.
    num_steps: what optimizers are told that a run has.
    devices: it is measured on the first; `None`: all local ones.
    on_job: called with a line of text before each measurement.
    on_failure: as for `jobs.run_jobs`.

  Returns:
    The rows that are now in the file.
  """
  sizes = {
    task.name: cost(task, _ADAM, num_steps)["parameters"] for task in tasks
  }
  ordered = sorted(tasks, key=lambda task: sizes[task.name])
  count = min(num_tasks, len(ordered))
  last = len(ordered) - 1
  picked = [ordered[round((i + 1) * last / count)] for i in range(count)]
  anew = {
    (task.name, candidate.name)
    for task in picked
    for candidate in (*candidates, _ADAM)
  }
  return jobs.run_jobs(
    [
      blame_user(
        jobs.Job(
          group=group_name(task, candidate, ["overhead", num_steps]),
          what=f"{task.name}: seconds per step of {candidate.name}",
          run=functools.partial(_rows, task, candidate, num_steps),
        ),
        candidate,
      )
      for task in picked
      for candidate in (_ADAM, *candidates)
    ],
    path,
    keep=lambda row: (row.get("task"), row.get("optimizer")) not in anew,
    devices=devices,
    on_job=on_job,
    on_failure=on_failure,
  )


def _rows(task, candidate, num_steps, devices) -> list[Row]:
  with jax.default_device(devices[0]):
    seconds = step_seconds(task, candidate, num_steps=num_steps)
  return [
    {
      "task": task.name,
      "optimizer": candidate.variants[0].optimizer,
      "seed": None,
      "setting": None,
      "step_s": seconds,
      "device": devices[0].device_kind,
      **cost(task, candidate, num_steps),
    }
  ]


def step_seconds(task: Any, candidate: Candidate, *, num_steps: int) -> float:
  """Returns the seconds of one training step of one run.

  Args:
    task: an inner task.
    candidate: its first variant is measured.
    num_steps: what the optimizer is told that the run has.
  """
  task = hosted_task(task)
  hyper = jax.tree.map(lambda x: x[0], candidate.hyper)
  tx = optax.with_extra_args_support(candidate.make_tx(hyper, num_steps))

  def step(carry, key):
    params, model_state, state = carry
    (loss, model_state), gradient = jax.value_and_grad(
      task.loss_with_state, has_aux=True
    )(params, model_state, key, None)
    updates, state = tx.update(gradient, state, params, value=loss)
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
  times_s = []
  for _ in range(_REPETITIONS):
    begin = time.perf_counter()
    jax.block_until_ready(run(carry, key))
    times_s.append(time.perf_counter() - begin)
  return min(times_s) / _STEPS
