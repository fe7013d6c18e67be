"""A table of all problems: what they are and what they cost.

Main names: `list_tasks`, `TaskRow`.
"""

import time
from collections.abc import Iterable
from typing import NamedTuple

import jax
import optax

from tasks import cost, registry
from tasks.base import Task


class TaskRow(NamedTuple):
  """One line of the table.

  Attributes:
    name: Name of the problem.
    family: Class of models.
    data: Name of the data source.
    num_parameters: Trained parameters.
    flops: Operations of a loss and its gradient.
    steps_per_second: Measured steps of Adam; `None` if not measured.
    summary: First line of the family's documentation.
  """

  name: str
  family: str
  data: str
  num_parameters: int
  flops: int
  steps_per_second: float | None
  summary: str


def list_tasks(
  problems: Iterable[str] | None = None,
  *,
  part: str = "meta_train",
  num_timed_steps: int = 0,
) -> list[TaskRow]:
  """Describes problems.

  Args:
    problems: Names; `None` for all.
    part: Part of the data.
    num_timed_steps: Steps of Adam to time per problem, which takes a
      compilation each; 0 measures nothing and compiles nothing.

  Returns:
    One row per problem, in order of names.
  """
  names = registry.list_problems() if problems is None else sorted(problems)
  return [_row(name, part, num_timed_steps) for name in names]


def _row(name: str, part: str, num_timed_steps: int) -> TaskRow:
  family = registry.family(name, part)
  task = registry.task(name, part)
  documentation = (type(family).__doc__ or "").strip()
  speed = None
  if num_timed_steps:
    speed = steps_per_second(task, num_steps=num_timed_steps)
  return TaskRow(
    name=name,
    family=type(family).__name__.removesuffix("Family"),
    data=", ".join(sorted({source for source, _ in family.data_ids})),
    num_parameters=cost.num_parameters(task),
    flops=cost.flops_per_step(task),
    steps_per_second=speed,
    summary=documentation.splitlines()[0] if documentation else "",
  )


def steps_per_second(task: Task, *, num_steps: int = 20) -> float:
  """Measures steps of Adam per second on one copy of a task.

  The first call compiles and is not counted; of three calls the fastest is.
  """
  optimizer = optax.adam(1e-3)

  def step(carry, key):
    params, model_state, state = carry
    (loss, model_state), gradient = jax.value_and_grad(
      task.loss_with_state, has_aux=True
    )(params, model_state, key, None)
    updates, state = optimizer.update(gradient, state)
    return (optax.apply_updates(params, updates), model_state, state), loss

  @jax.jit
  def run(key):
    params, model_state = task.init_with_state(key)
    carry = params, model_state, optimizer.init(params)
    return jax.lax.scan(step, carry, jax.random.split(key, num_steps))[1]

  key = jax.random.key(0)
  run(key).block_until_ready()
  times_s = []
  for _ in range(3):
    begin = time.perf_counter()
    run(key).block_until_ready()
    times_s.append(time.perf_counter() - begin)
  return num_steps / min(times_s)
