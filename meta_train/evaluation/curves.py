"""Inner training runs of many optimizers, as one jitted program.

Idea: a run is a pure function of (hyperparameters, key). The key alone gives
initial parameters, batches and the samples of the final measurement, so run i
of every optimizer is paired with run i of every other. Runs are vmapped over
seeds and over hyperparameters; data are drawn once per seed, inside jit.

A run whose loss stops being finite has diverged, and stays so: from that step
on its curve is infinite, and so are its final losses.

On several devices they share the seeds, or the variants where that is more
even; what does not divide is padded with runs that nobody looks at.

Names: `Curves`, `training_curves`, `measures`, `NUM_FINAL_BATCHES`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Key, PyTree

from meta_train.evaluation.updating import update
from tasks.hosted import hosted_task

#: Batches of the final measurement.
NUM_FINAL_BATCHES = 32


class Curves(NamedTuple):
  """Results of `training_curves`; axis `variants` is that of `hyper`.

  Attributes:
    losses: loss on the training batch of each step, before its update;
      column 0 is the loss of the initial parameters.
    final: final losses and other measures, by split and name, of the final
      parameters: `final["train"]["loss"]`, `final["valid"]["accuracy"]`.
    diverged: whether a loss, of the curve or final, was not finite.
    beyond: losses of the steps after the final measurement; `None` unless
      asked for.
  """

  losses: Float[Array, "variants seeds steps"]
  final: dict[str, dict[str, Float[Array, "variants seeds"]]]
  diverged: Bool[Array, "variants seeds"]
  beyond: Float[Array, "variants seeds extra"] | None


#: Maps optimizer state and parameters to the parameters to be measured.
EvalParams = Callable[[PyTree, PyTree], PyTree]


class _State(NamedTuple):
  """What a run carries from step to step."""

  params: PyTree
  model_state: PyTree
  opt_state: PyTree


def _start(task, make_tx, hyper, key):
  params, model_state = task.init_with_state(key)
  return _State(params, model_state, make_tx(hyper).init(params))


def _step(task, make_tx, hyper, state, key):
  (loss, model_state), grads = jax.value_and_grad(
    task.loss_with_state, has_aux=True
  )(state.params, state.model_state, key, None)
  updates, opt_state = update(
    make_tx(hyper), grads, state.opt_state, state.params, value=loss
  )
  params = optax.apply_updates(state.params, updates)
  return _State(params, model_state, opt_state), jnp.float32(loss)


def _measure(task, split, eval_params, hyper, state, key):
  """Returns loss and scalar auxiliary outputs on one batch of a split."""
  del hyper
  params = state.params
  if eval_params is not None:
    params = eval_params(state.opt_state, params)
  # Tasks of other packages may not draw batches; then the loss does.
  sample_batch = getattr(task, "sample_batch", lambda key, split: None)
  split = getattr(task, "measured_split", lambda split: split)(split)
  batch_key, loss_key = jax.random.split(key)
  loss, _, aux = task.loss_with_state_and_aux(
    params, state.model_state, loss_key, sample_batch(batch_key, split)
  )
  scalars = {name: value for name, value in aux.items() if value.ndim == 0}
  return jax.tree.map(jnp.float32, scalars | {"loss": loss})


def measures(task: Any) -> set[str]:
  """Returns the names of what the final parameters are measured by.

  Args:
    task: a task; see `tasks.base.Task`.
  """
  task = hosted_task(task)

  def measure(key):
    params, model_state = task.init_with_state(key)
    state = _State(params, model_state, None)
    return _measure(task, "train", None, None, state, key)

  return set(jax.eval_shape(measure, jax.random.key(0)))


def _over_runs(function, *fixed):
  """Maps f(*fixed, hyper, state, key) over variants and seeds.

  Keys belong to seeds alone, so what depends on nothing else, such as the
  batch, is computed once per seed.
  """
  function = functools.partial(function, *fixed)
  over_seeds = jax.vmap(function, in_axes=(None, 0, 0))
  return jax.vmap(over_seeds, in_axes=(0, 0, None))


class _Plan(NamedTuple):
  """What to compute, apart from arrays."""

  task: Any
  make_tx: Callable[[PyTree], optax.GradientTransformation]
  num_steps: int
  extra_steps: int
  splits: tuple[str, ...]
  num_batches: int
  eval_params: EvalParams | None


# Scans are outermost: a scan inside vmap takes several times as long to trace.
def _run_all(plan: _Plan, hyper, keys):
  """Returns the `Curves` of all variants and seeds."""
  task, make_tx = plan.task, plan.make_tx

  def at(stream, index=0):
    """Keys of all seeds; step i has the same whatever `num_steps` is."""

    def key_of(key):
      return jax.random.fold_in(jax.random.fold_in(key, stream), index)

    return jax.vmap(key_of)(keys)

  start = functools.partial(_start, task, make_tx)
  start = jax.vmap(jax.vmap(start, in_axes=(None, 0)), in_axes=(0, None))
  step = _over_runs(_step, task, make_tx)

  def train(state, first, count):
    state, losses = jax.lax.scan(
      lambda state, i: step(hyper, state, at(1, i)),
      state,
      first + jnp.arange(count),
    )
    return state, jnp.moveaxis(losses, 0, -1)

  state, losses = train(start(hyper, at(0)), 0, plan.num_steps)
  final = {}
  for number, split in enumerate(plan.splits):
    measure = _over_runs(_measure, task, split, plan.eval_params)
    # One batch after the other: memory stays that of a training step.
    values = jax.lax.map(
      lambda i, m=measure, n=number: m(hyper, state, at(2 + n, i)),
      jnp.arange(plan.num_batches),
    )
    final[split] = jax.tree.map(lambda x: jnp.mean(x, axis=0), values)
  beyond = None
  if plan.extra_steps:
    _, beyond = train(state, plan.num_steps, plan.extra_steps)
  return _absorb_divergence(losses, final, beyond)


def _absorb_divergence(losses, final, beyond):
  """Makes losses infinite from the first that is not finite on."""
  num_steps = losses.shape[-1]
  if beyond is not None:
    losses = jnp.concatenate([losses, beyond], axis=-1)
  broken = jnp.cumsum(~jnp.isfinite(losses), axis=-1) > 0
  losses = jnp.where(broken, jnp.inf, losses)
  if beyond is not None:
    losses, beyond = losses[..., :num_steps], losses[..., num_steps:]
  diverged = broken[..., num_steps - 1]
  for measures in final.values():
    diverged = diverged | ~jnp.isfinite(measures["loss"])
  for measures in final.values():
    measures["loss"] = jnp.where(diverged, jnp.inf, measures["loss"])
  return Curves(losses, final, diverged, beyond)


def _shared_axis(num_variants, num_seeds, num_devices):
  """Says what devices share, "seeds" or "variants", and how many devices.

  The runs of the busiest device count. At a tie it is seeds, since data are
  drawn once for each, and few devices.
  """

  def busiest(choice):
    axis, devices = choice
    seeds = -(-num_seeds // devices) if axis == "seeds" else num_seeds
    variants = -(-num_variants // devices) if axis != "seeds" else num_variants
    return variants * seeds, devices, axis

  return min(
    (
      (axis, devices)
      for axis in ("seeds", "variants")
      for devices in range(1, num_devices + 1)
    ),
    key=busiest,
  )


def _padded(tree, size):
  """Repeats the last entry along the first axis up to a multiple of `size`."""

  def pad(x):
    missing = -x.shape[0] % size
    return jnp.concatenate([x, jnp.repeat(x[-1:], missing, axis=0)])

  return jax.tree.map(pad, tree)


def training_curves(
  task: Any,
  make_tx: Callable[[PyTree], optax.GradientTransformation],
  hyper: PyTree,
  keys: Key[Array, "seeds"],
  *,
  num_steps: int,
  splits: tuple[str, ...] = ("train", "valid"),
  num_final_batches: int = NUM_FINAL_BATCHES,
  variants_at_once: int | None = None,
  extra_steps: int = 0,
  eval_params: EvalParams | None = None,
  devices: Sequence[jax.Device] | None = None,
) -> Curves:
  """Trains with every variant of an optimizer from every seed.

  The training loss is `task.loss_with_state(params, state, key, None)`,
  which draws its batch from the key. After the last update the losses are
  measured over `num_final_batches` batches of each split, the same ones for
  all variants, which takes most of the noise of single batches away.

  Args:
    task: a task; see `tasks.base.Task`. One with `datasets` trains and is
      measured on the first batches of its iterators; see `tasks.hosted`.
    make_tx: maps one slice of `hyper` to an optax transformation; it gets
      `value=loss` where it accepts extra arguments.
    hyper: pytree of arrays with a leading axis `variants`: an array of
      learning rates, or stacked meta-parameters. `None` is one variant,
      and `make_tx` gets `None`.
    keys: one typed key per run; equal keys are equal runs.
    num_steps: inner steps of each run.
    splits: splits that the final parameters are measured on.
    num_final_batches: batches of that measurement.
    variants_at_once: how many variants are in memory together; `None`:
      all of them.
    extra_steps: steps to train on after the final measurement.
    eval_params: what to measure, for optimizers that train other parameters
      than they return; `None`: the trained ones.
    devices: they share the seeds or the variants; `None`: all local ones.

  Returns:
    The curves; see `Curves`.

  Raises:
    ValueError: `num_steps` or `num_final_batches` is less than 1.
  """
  task = hosted_task(task)
  for name, value in (
    ("num_steps", num_steps),
    ("num_final_batches", num_final_batches),
  ):
    if value < 1:
      raise ValueError(f"{name}={value} must be at least 1.")

  if hyper is None:
    hyper, make_one = jnp.zeros(1), make_tx
    make_tx = lambda _: make_one(None)  # noqa: E731
  plan = _Plan(
    *(task, make_tx, num_steps, extra_steps),
    *(splits, num_final_batches, eval_params),
  )

  def all_runs(hyper, keys):
    run = functools.partial(_run_all, plan, keys=keys)
    if variants_at_once is None:
      return run(hyper)
    # One variant in `run` at a time, and so many of them side by side.
    curves = jax.lax.map(
      lambda one: run(jax.tree.map(lambda x: x[None], one)),
      hyper,
      batch_size=variants_at_once,
    )
    return jax.tree.map(lambda x: x[:, 0], curves)

  num_seeds, num_variants = len(keys), len(jax.tree.leaves(hyper)[0])
  devices = jax.local_devices() if devices is None else devices
  axis, size = _shared_axis(num_variants, num_seeds, len(devices))
  mesh = jax.sharding.Mesh(np.asarray(devices[:size]), (axis,))
  specs = (P(), P(axis)) if axis == "seeds" else (P(axis), P())
  program = jax.jit(
    jax.shard_map(
      all_runs,
      mesh=mesh,
      in_specs=specs,
      out_specs=P(None, axis) if axis == "seeds" else P(axis),
      # Schedules and fresh states start as constants, which the check
      # takes for values that all devices share.
      check_vma=False,
    )
  )
  sizes = (1, size) if axis == "seeds" else (size, 1)
  inputs = jax.device_put(
    tuple(map(_padded, (hyper, keys), sizes)),
    tuple(NamedSharding(mesh, spec) for spec in specs),
  )
  curves = program(*inputs)
  return jax.tree.map(lambda x: x[:num_variants, :num_seeds], curves)
