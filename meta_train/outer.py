"""The outer step: from all tasks to new meta-parameters.

It is two compiled programs. The first, nearly all of the work, advances the
tasks and estimates the meta-gradient: tasks of one family are one `vmap`,
families follow each other, and the tasks axis is sharded over a mesh of
devices (on a CPU, one per core). The second, tiny, updates theta on every
device alike. Between them each device's mean gradient, a few kilobytes, is
averaged on the host: an all-reduce inside one program was tried, and on CPU
devices it can wait for ever, since both sides of it may wait for a thread of
the pool that the other one holds.

A task's random numbers come from the run's key, the outer step and the
task's own number, so they do not depend on how many devices share the work,
and nothing random needs to be kept.

Main names: `OuterLoop`, `OuterState`, `StepMetrics`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, PRNGKeyArray

from meta_train import shares
from meta_train.estimators import Estimator
from meta_train.feed import Feed

AXIS = "tasks"
#: An outer step that is never reached: its keys start the first episodes.
NEVER = np.iinfo(np.int32).max


class OuterState(NamedTuple):
  """Everything a run needs to go on, bit for bit.

  Attributes:
    outer_step: finished outer steps.
    theta: flat meta-parameters.
    average: their running average, the result of meta-training.
    optimizer: state of the outer optimizer.
    tasks: the estimators' states, one entry per family, with the tasks along
      the first axis of every leaf.
  """

  outer_step: Int[Array, ""]
  theta: Float[Array, "theta"]
  average: Float[Array, "theta"]
  optimizer: Any
  tasks: tuple[Any, ...]


class StepMetrics(NamedTuple):
  """What one outer step tells; means over tasks.

  Attributes:
    meta_loss: over all families.
    diverged_fraction: of the perturbed copies, over all families.
    grad_norm: of the estimated meta-gradient, before any clipping.
    grad_variance: of that estimate, from the spread of its tasks; see
      `meta_train.shares`.
    grad_snr: its signal-to-noise ratio; 0 on average for pure noise.
    family_losses: the meta-loss by family.
    family_diverged: the fraction diverged by family.
  """

  meta_loss: float
  diverged_fraction: float
  grad_norm: float
  grad_variance: float
  grad_snr: float
  family_losses: tuple[float, ...]
  family_diverged: tuple[float, ...]


class OuterLoop:
  """Meta-training as two functions, `init` and `step`.

  Args:
    estimators: one per task family.
    optimizer: outer optax optimizer.
    num_tasks: tasks per family.
    theta_average: decay per outer step of the average of theta.
    key: the run's key.
    devices: devices that share the tasks; their number must divide
      `num_tasks`.
    feed: batches for hosted families; `None` where there are none.
  """

  def __init__(
    self,
    estimators: tuple[Estimator, ...],
    optimizer: optax.GradientTransformation,
    *,
    num_tasks: int,
    theta_average: float,
    key: PRNGKeyArray,
    devices: Sequence[jax.Device],
    feed: Feed | None = None,
  ):
    self._estimators = estimators
    self._optimizer = optimizer
    self._theta_average = theta_average
    self._key = key
    self._feed = None if feed is None or feed.empty else feed
    self._mesh = jax.make_mesh(
      (len(devices),),
      (AXIS,),
      axis_types=(jax.sharding.AxisType.Auto,),
      devices=devices,
    )
    by_task, everywhere = PartitionSpec(AXIS), PartitionSpec()
    self._everywhere = NamedSharding(self._mesh, everywhere)
    self._by_task = NamedSharding(self._mesh, by_task)
    self._numbers = jax.device_put(
      np.arange(num_tasks, dtype=np.int32), self._by_task
    )
    self._start = jax.jit(
      jax.shard_map(
        self._start_tasks,
        mesh=self._mesh,
        in_specs=(by_task,),
        out_specs=by_task,
        check_vma=False,
      )
    )
    self._estimate = jax.jit(
      jax.shard_map(
        self._estimate_tasks,
        mesh=self._mesh,
        in_specs=(everywhere, everywhere, by_task, by_task, by_task),
        out_specs=by_task,
        check_vma=False,
      ),
      donate_argnums=2,
      # Named, since on one device the same sharding has two names.
      out_shardings=self._by_task,
    )
    self._apply = jax.jit(
      self._apply_gradient,
      donate_argnums=0,
      out_shardings=self._everywhere,
    )

  def init(self, theta: Float[Array, "theta"]) -> OuterState:
    """Returns the state before the first outer step.

    Args:
      theta: flat meta-parameters to start from.
    """
    return self.place(
      OuterState(
        outer_step=jnp.zeros([], jnp.int32),
        # Copies, since both are overwritten.
        theta=jnp.array(theta),
        average=jnp.array(theta),
        optimizer=self._optimizer.init(theta),
        tasks=self._start(self._numbers),
      )
    )

  def place(self, state: OuterState) -> OuterState:
    """Puts a state where `step` wants it: task states by task."""
    spread = jax.device_put(state._replace(tasks=()), self._everywhere)
    tasks = jax.device_put(state.tasks, self._by_task)
    return spread._replace(tasks=tasks)

  def step(self, state: OuterState) -> tuple[OuterState, StepMetrics]:
    """Takes one outer step; the given state is used up.

    Returns:
      The next state, and host scalars: the estimate is waited for.
    """
    tasks, estimates = self._estimate(
      state.theta,
      state.outer_step,
      state.tasks,
      self._numbers,
      self._batches(state),
    )
    joined = shares.join(
      jax.device_get(estimates), num_tasks=self._numbers.size
    )
    gradient = jax.device_put(joined.gradient, self._everywhere)
    spread = self._apply(state._replace(tasks=()), gradient)
    metrics = StepMetrics(
      meta_loss=float(np.mean(joined.losses)),
      diverged_fraction=float(np.mean(joined.diverged)),
      grad_norm=float(np.linalg.norm(joined.gradient)),
      grad_variance=joined.variance,
      grad_snr=joined.snr,
      family_losses=joined.losses,
      family_diverged=joined.diverged,
    )
    return spread._replace(tasks=tasks), metrics

  def _batches(self, state: OuterState) -> tuple[Any, ...]:
    if self._feed is None:
      return (None,) * len(self._estimators)
    batches = self._feed.take(int(state.outer_step))
    return jax.device_put(batches, self._by_task)

  def compiled_programs(self) -> int:
    """Returns how many programs `step` has compiled; 2 and never more."""
    programs: tuple[Any, ...] = (self._estimate, self._apply)
    return sum(program._cache_size() for program in programs)

  def _keys(self, outer_step, family: int, numbers) -> PRNGKeyArray:
    key = jax.random.fold_in(jax.random.fold_in(self._key, outer_step), family)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)

  def _start_tasks(self, numbers: Int[Array, "tasks"]) -> tuple[Any, ...]:
    return tuple(
      jax.vmap(estimator.init)(self._keys(NEVER, family, numbers))
      for family, estimator in enumerate(self._estimators)
    )

  def _estimate_tasks(
    self,
    theta: Float[Array, "theta"],
    outer_step: Int[Array, ""],
    tasks: tuple[Any, ...],
    numbers: Int[Array, "tasks"],
    batches: tuple[Any, ...],
  ) -> tuple[tuple[Any, ...], shares.Share]:
    """Runs on one device, with its own tasks only."""
    states, estimates = [], []
    for family, estimator in enumerate(self._estimators):
      keys = self._keys(outer_step, family, numbers)
      state, estimate = jax.vmap(estimator.estimate, (None, 0, 0, None, 0))(
        theta, tasks[family], keys, outer_step, batches[family]
      )
      states.append(state)
      estimates.append(estimate)
    return tuple(states), shares.share(estimates)

  def _apply_gradient(self, state: OuterState, gradient) -> OuterState:
    updates, optimizer = self._optimizer.update(
      gradient, state.optimizer, state.theta
    )
    theta = optax.apply_updates(state.theta, updates)
    average = optax.incremental_update(
      theta, state.average, 1.0 - self._theta_average
    )
    return OuterState(state.outer_step + 1, theta, average, optimizer, ())
