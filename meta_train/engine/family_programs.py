"""The compiled programs of the task families, nearly all of the work.

Each family has one that begins its tasks, used when a phase begins, and one
that advances them and estimates the meta-gradient, used in every outer step
that visits the family. A program is one `vmap` over its tasks, sharded over
this process's devices without any communication.

Main names: `FamilyPrograms`.
"""

import concurrent.futures
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, PRNGKeyArray

from meta_train.engine import shares
from meta_train.estimators import Estimator
from meta_train.run import memory_maps

AXIS = "tasks"


class FamilyPrograms:
  """The programs of all families; final.

  Args:
    estimators: one per task family.
    num_tasks: tasks per family, in all processes together.
    numbers: which of them are this process's.
    key: the run's key.
    mesh: this process's devices, along `AXIS`.
    limit: largest norm of the estimate of one task, see
      `meta_train.engine.shares`.

  Attributes:
    by_task: sharding of what has an entry for each of this process's tasks.
  """

  def __init__(
    self,
    estimators: Sequence[Estimator],
    *,
    num_tasks: int,
    numbers: range,
    key: PRNGKeyArray,
    mesh: Mesh,
    limit: float,
  ):
    self._estimators = tuple(estimators)
    self._num_tasks = num_tasks
    self._key = key
    self._limit = limit
    by_task, everywhere = PartitionSpec(AXIS), PartitionSpec()
    self.by_task = NamedSharding(mesh, by_task)
    self._numbers = jax.device_put(np.array(numbers, np.int32), self.by_task)

    def start(family: int):
      return jax.jit(
        jax.shard_map(
          lambda *inputs: self._start_tasks(family, *inputs),
          mesh=mesh,
          in_specs=(everywhere, everywhere, by_task),
          out_specs=by_task,
          check_vma=False,
        ),
        out_shardings=self.by_task,
      )

    def estimate(family: int):
      return jax.jit(
        jax.shard_map(
          lambda *inputs: self._estimate_tasks(family, *inputs),
          mesh=mesh,
          in_specs=(everywhere,) * 3 + (by_task,) * 3,
          out_specs=by_task,
          check_vma=False,
        ),
        donate_argnums=3,
        # Named, since on one device the same sharding has two names.
        out_shardings=self.by_task,
      )

    families = range(len(self._estimators))
    self._start: tuple[Any, ...] = tuple(map(start, families))
    self._estimate: tuple[Any, ...] = tuple(map(estimate, families))

  def started(self, step: int, outer_step: int = 0) -> tuple[Any, ...]:
    """Returns first episodes of all tasks, compiling several at a time.

    Args:
      step: number of an outer step that is not taken, for the keys.
      outer_step: where schedules stand.
    """
    steps = np.int32(step), np.int32(outer_step)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      # `map` drops those that have not begun when one fails.
      found = pool.map(lambda f: f(*steps, self._numbers), self._start)
      states = tuple(found)
    memory_maps.drop(self._start)  # Until the next phase, if there is one.
    return states

  def template(self) -> tuple[Any, ...]:
    """Returns shapes and dtypes of the states of all processes' tasks."""
    number = jax.ShapeDtypeStruct((), jnp.int32)
    numbers = jax.ShapeDtypeStruct((self._num_tasks,), jnp.int32)
    return tuple(
      jax.eval_shape(
        lambda *inputs, f=family: self._start_tasks(f, *inputs),
        number,
        number,
        numbers,
      )
      for family in range(len(self._estimators))
    )

  def compile(self, family: int, theta, outer_step, free, tasks, batches):
    """Compiles what `estimate` will run, given its arguments or shapes."""
    self._estimate[family].lower(
      theta, outer_step, free, tasks, self._numbers, batches
    ).compile()

  def estimate(
    self, family: int, theta, outer_step, free, tasks, batches
  ) -> tuple[Any, shares.Share]:
    """Advances a family's tasks; nothing is waited for.

    Args:
      family: its number.
      theta: flat meta-parameters.
      outer_step: finished outer steps.
      free: 1 for the meta-parameters that learn, 0 for the frozen ones.
      tasks: their states, which are used up.
      batches: theirs; None for tasks that draw their own.

    Returns:
      The next states, and each device's share of the estimate.
    """
    return self._estimate[family](
      theta, outer_step, free, tasks, self._numbers, batches
    )

  def compiled(self) -> int:
    """Returns how many programs `estimate` has compiled so far."""
    return sum(program._cache_size() for program in self._estimate)

  def _keys(self, outer_step, family: int, numbers) -> PRNGKeyArray:
    key = jax.random.fold_in(jax.random.fold_in(self._key, outer_step), family)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)

  def _start_tasks(
    self, family: int, step, outer_step, numbers: Int[Array, "tasks"]
  ):
    keys = self._keys(step, family, numbers)
    init = self._estimators[family].init
    return jax.vmap(init, (0, None))(keys, outer_step)

  def _estimate_tasks(
    self,
    family: int,
    theta: Float[Array, "theta"],
    outer_step: Int[Array, ""],
    free: Float[Array, "theta"],
    tasks: Any,
    numbers: Int[Array, "tasks"],
    batches: Any,
  ) -> tuple[Any, shares.Share]:
    """Runs on one device, with its own tasks only."""
    keys = self._keys(outer_step, family, numbers)
    estimate = self._estimators[family].estimate
    tasks, estimates = jax.vmap(estimate, (None, 0, 0, None, 0, None))(
      theta, tasks, keys, outer_step, batches, free
    )
    return tasks, shares.share([estimates], self._limit)
