"""The outer step: from all tasks to new meta-parameters.

It is one compiled program per task family, nearly all of the work, and one
tiny program for theta. A family's program advances its tasks and estimates
the meta-gradient: its tasks are one `vmap`, sharded over a mesh of devices
(on a CPU, one per core). All programs of an outer step are started at once;
then each device's mean gradients, a few kilobytes, are averaged on the host,
and the last program updates theta on every device alike. An all-reduce inside
one program was tried, and on CPU devices it can wait for ever, since both
sides of it may wait for a thread of the pool that the other one holds.

Several processes have a mesh each, and exchange the same few kilobytes (see
`meta_train.engine.processes`). A task's random numbers come from the run's key,
the outer step and the task's own number, so they do not depend on how many
devices or processes share the work, and nothing random needs to be kept.

An estimate that is not finite changes nothing but the tasks' own states: the
step is skipped and counted.

The result is the running average a of theta, that of the present phase alone:
its n-th outer step makes

    a_n = a_{n-1} + (1 - d) / (1 - d**n) (theta_n - a_{n-1}),    n = 1, 2, ...,

with d the decay, so that theta_k weighs d**(n - k), over the sum of these
weights. What the phase began with has no weight, and d = 0 gives theta itself.

Main names: `OuterLoop`.
"""

import concurrent.futures
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, PRNGKeyArray

from meta_train.engine import between, shares
from meta_train.engine import phases as phases_lib
from meta_train.engine.family_programs import AXIS, FamilyPrograms
from meta_train.engine.feed import Feed
from meta_train.engine.outer_state import OuterState, StepMetrics
from meta_train.engine.phases import Phase
from meta_train.engine.processes import Group
from meta_train.engine.visits import Visits
from meta_train.errors import UserError
from meta_train.estimators import Estimator

#: An outer step that is never reached: its keys start the first episodes, and
#: those below it the first ones of later phases.
NEVER = np.iinfo(np.int32).max
#: A run stops when so many outer steps in a row were skipped.
MAX_SKIPPED = 20


class OuterLoop:
  """Meta-training as two functions, `init` and `step`; final.

  Args:
    estimators: one per task family.
    optimizer: outer optax optimizer; it is given the `length` of the phase
      too, should it want it.
    num_tasks: tasks per family, in all processes together.
    theta_average: decay per outer step of the average of theta, see above.
    key: the run's key.
    devices: this process's devices that share its tasks; as many in every
      process, and their total number must divide `num_tasks`.
    group: the processes of the run; None: only this one.
    visits: which families each outer step visits; None: all.
    balanced: whether families count alike, see `meta_train.engine.shares`.
    limit: largest norm of the estimate of one task, likewise; 0: none.
    phases: which meta-parameters learn when; None: all, always.
    feed: batches of this process's tasks, for hosted families; None: there
      are no such families.

  Attributes:
    group: the processes of the run.
    devices: devices of this process that share its tasks.
    num_devices: how many.
    phases: which meta-parameters learn when.
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
    group: Group | None = None,
    visits: Visits | None = None,
    balanced: bool = False,
    limit: float = 0.0,
    phases: tuple[Phase, ...] | None = None,
    feed: Feed | None = None,
  ):
    self._optimizer = optax.with_extra_args_support(optimizer)
    self._num_tasks = num_tasks
    self._theta_average = theta_average
    self.group = group or Group()
    self.devices = tuple(devices)
    self.num_devices = len(devices)
    self._balanced = balanced
    self._visits = visits or Visits(len(estimators))
    self._feed = feed or Feed((), (), num_tasks=num_tasks)
    mesh = jax.make_mesh(
      (len(devices),),
      (AXIS,),
      axis_types=(jax.sharding.AxisType.Auto,),
      devices=devices,
    )
    self._everywhere = NamedSharding(mesh, PartitionSpec())
    self._programs = FamilyPrograms(
      estimators,
      num_tasks=num_tasks,
      numbers=self.group.share(num_tasks),
      key=key,
      mesh=mesh,
      limit=limit,
    )
    self._by_task = self._programs.by_task
    self.phases = tuple(
      phase._replace(free=jax.device_put(phase.free, self._everywhere))
      for phase in phases or (Phase(0, jnp.float32(1.0)),)
    )
    self._apply: Any = jax.jit(
      self._apply_gradient,
      donate_argnums=0,
      out_shardings=self._everywhere,
    )

  def init(self, theta: Float[Array, "theta"]) -> OuterState:
    """Returns the state before the first outer step.

    Args:
      theta: flat meta-parameters to start from.
    """
    state = self._fresh(jnp.asarray(theta))
    return self.place(state._replace(tasks=self._programs.started(NEVER)))

  def template(self, theta: Float[Array, "theta"]) -> OuterState:
    """Returns shapes and dtypes of a state of all processes' tasks.

    Args:
      theta: flat meta-parameters.
    """
    shapes = jax.eval_shape(self._fresh, theta)
    return shapes._replace(tasks=self._programs.template())

  def place(self, state: OuterState) -> OuterState:
    """Puts a state where `step` wants it: task states by task."""
    spread = jax.device_put(state._replace(tasks=()), self._everywhere)
    tasks = jax.device_put(state.tasks, self._by_task)
    return spread._replace(tasks=tasks)

  def compile(self, state: OuterState, num_steps: int) -> None:
    """Compiles the programs of the next outer steps, several at a time.

    Without it, each is compiled when it is first needed, one after the other.

    Args:
      state: the state they start from.
      num_steps: how many outer steps.
    """
    start = int(state.outer_step)

    def build(family: int) -> None:
      self._programs.compile(
        family,
        state.theta,
        state.outer_step,
        self.phases[0].free,
        state.tasks[family],
        self._feed.shapes(family),
      )

    families = self._visits.first(num_steps, start)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
      list(pool.map(build, families))

  def step(self, state: OuterState) -> tuple[OuterState, StepMetrics]:
    """Takes one outer step; the given state is used up.

    Returns:
      The next state, and host scalars: the estimate is waited for.

    Raises:
      UserError: `MAX_SKIPPED` steps in a row were skipped.
    """
    outer_step = int(state.outer_step)
    number = phases_lib.at(self.phases, outer_step)
    phase = self.phases[number]
    if number and phase.start == outer_step:
      state = self._enter(state, number)
    visited = self._visits.at(outer_step)
    batches = self._feed.take(
      outer_step, visited, self._visits.at(outer_step + 1)
    )
    if batches:
      batches = jax.device_put(batches, self._by_task)
    tasks, rows = list(state.tasks), []
    for family in visited:
      tasks[family], row = self._programs.estimate(
        family,
        state.theta,
        state.outer_step,
        phase.free,
        tasks[family],
        batches.get(family),
      )
      rows.append(row)
    with np.errstate(invalid="ignore", over="ignore"):
      joined = shares.join(
        self._all_shares(rows),
        num_tasks=self._num_tasks,
        balanced=self._balanced,
      )
    # From the host straight into the program: `device_put` takes longer.
    spread = self._apply(
      state._replace(tasks=()),
      joined.gradient,
      phase.free,
      np.float32(phase.length),
      np.float32(self._weight(outer_step - phase.start + 1)),
    )
    skipped = not np.all(np.isfinite(joined.gradient))
    if skipped and int(spread.skipped) >= MAX_SKIPPED:
      raise UserError(
        f"the meta-gradient was not finite in {MAX_SKIPPED} outer steps in a "
        f"row, the last one number {outer_step + 1}; look for infinite losses "
        "in the tasks, or begin in another --run_dir with a lower "
        "--outer_learning_rate or --sigma"
      )
    metrics = StepMetrics(
      meta_loss=float(np.mean(joined.losses)),
      diverged_fraction=float(np.mean(joined.diverged)),
      grad_norm=float(np.linalg.norm(joined.gradient)),
      grad_variance=joined.variance,
      grad_snr=joined.snr,
      grad_limited=joined.limited,
      skipped=skipped,
      families=visited,
      family_losses=joined.losses,
      family_diverged=joined.diverged,
    )
    return spread._replace(tasks=tuple(tasks)), metrics

  def compiled_programs(self) -> int:
    """Returns how many programs `step` has compiled so far.

    One for each family that was visited and one more, and never more.
    """
    return self._programs.compiled() + self._apply._cache_size()

  def _weight(self, number: int) -> float:
    """Returns the average's weight of theta after a phase's n-th outer step."""
    decay = self._theta_average
    return (1.0 - decay) / (1.0 - decay**number)

  def _all_shares(self, rows: list[shares.Share]) -> shares.Share:
    """Returns the shares of all devices of all processes, in their order."""
    ours = jax.tree.map(
      lambda *xs: np.concatenate(xs, axis=1), *jax.device_get(rows)
    )
    return between.all_gather_rows(self.group, ours)

  def _fresh(self, theta: Float[Array, "theta"]) -> OuterState:
    return OuterState(
      outer_step=jnp.zeros([], jnp.int32),
      # Copies, since both are overwritten.
      theta=jnp.array(theta),
      average=jnp.array(theta),
      optimizer=self._optimizer.init(theta),
      skipped=jnp.zeros([], jnp.int32),
      tasks=(),
    )

  def _enter(self, state: OuterState, number: int) -> OuterState:
    """Begins a phase: from the result of the one before, and anew."""
    fresh = self._fresh(state.average)
    begun = fresh._replace(
      outer_step=state.outer_step,
      tasks=self._programs.started(NEVER - number, int(state.outer_step)),
    )
    return self.place(begun)

  def _apply_gradient(
    self, state: OuterState, gradient, free, length, weight
  ) -> OuterState:
    updates, optimizer = self._optimizer.update(
      free * gradient, state.optimizer, state.theta, length=length
    )
    theta = optax.apply_updates(state.theta, free * updates)
    # In this form the average of what is frozen stays as it is, bit for bit.
    average = state.average + weight * (theta - state.average)
    average = jnp.where(weight < 1.0, average, theta)
    finite = jnp.all(jnp.isfinite(gradient))
    theta, average, optimizer = jax.tree.map(
      lambda new, old: jnp.where(finite, new, old),
      (theta, average, optimizer),
      (state.theta, state.average, state.optimizer),
    )
    return OuterState(
      outer_step=state.outer_step + 1,
      theta=theta,
      average=average,
      optimizer=optimizer,
      skipped=jnp.where(finite, 0, state.skipped + 1),
      tasks=(),
    )
