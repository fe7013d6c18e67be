"""Inner training runs of many optimizers, as one jitted program.

Idea: a run is a pure function of (hyperparameters, key). The key alone gives
initial parameters, batches and the samples of the final measurement, so run i
of every optimizer is paired with run i of every other. Runs are vmapped over
seeds and over hyperparameters; data are drawn once per seed, inside jit.

A run whose loss stops being finite has diverged, and stays so: from that step
on its curve is infinite, and so are its final losses.

Names: `Curves`, `training_curves`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Key, PyTree


class Curves(NamedTuple):
  """Results of `training_curves`; axis `variants` is that of `hyper`.

  Attributes:
    losses: loss on the training batch of each step, before its update;
      column 0 is the loss of the initial parameters.
    final: final losses and other measures, by split and name, of the final
      parameters: `final["train"]["loss"]`, `final["valid"]["accuracy"]`.
    diverged: whether a loss, of the curve or final, was not finite.
  """

  losses: Float[Array, "variants seeds steps"]
  final: dict[str, dict[str, Float[Array, "variants seeds"]]]
  diverged: Bool[Array, "variants seeds"]


def _absorb(losses: Float[Array, "steps"]) -> Float[Array, "steps"]:
  """Make everything infinite from the first loss on that is not finite."""
  broken = jax.lax.cumsum((~jnp.isfinite(losses)).astype(jnp.int32)) > 0
  return jnp.where(broken, jnp.inf, losses)


def _measure(task, params, model_state, key, split, num_batches):
  """Average loss and auxiliary outputs over batches of a split."""
  # Tasks of other packages may not draw batches; then the loss does.
  sample_batch = getattr(task, "sample_batch", lambda key, split: None)

  def one_batch(key):
    batch_key, loss_key = jax.random.split(key)
    data = sample_batch(batch_key, split)
    loss, _, aux = task.loss_with_state_and_aux(
      params, model_state, loss_key, data
    )
    scalars = {
      name: value for name, value in aux.items() if jnp.ndim(value) == 0
    }
    return jax.tree.map(jnp.float32, scalars | {"loss": loss})

  # One batch after the other: memory stays that of a training step.
  values = jax.lax.map(one_batch, jax.random.split(key, num_batches))
  return jax.tree.map(jnp.mean, values)


def _train(task, tx, key, num_steps, splits, num_batches):
  init_key, steps_key, final_key = jax.random.split(key, 3)
  params, model_state = task.init_with_state(init_key)
  tx = optax.with_extra_args_support(tx)

  def step(carry, step_key):
    params, model_state, opt_state = carry
    (loss, model_state), grads = jax.value_and_grad(
      task.loss_with_state, has_aux=True
    )(params, model_state, step_key, None)
    updates, opt_state = tx.update(grads, opt_state, params, value=loss)
    params = optax.apply_updates(params, updates)
    return (params, model_state, opt_state), jnp.float32(loss)

  carry = (params, model_state, tx.init(params))
  step_keys = jax.random.split(steps_key, num_steps)
  (params, model_state, _), losses = jax.lax.scan(step, carry, step_keys)
  losses = _absorb(losses)
  final = {
    split: _measure(task, params, model_state, key, split, num_batches)
    for split, key in zip(
      splits, jax.random.split(final_key, len(splits)), strict=True
    )
  }
  broken = ~jnp.isfinite(losses[-1])
  for measures in final.values():
    broken = broken | ~jnp.isfinite(measures["loss"])
  for measures in final.values():
    measures["loss"] = jnp.where(broken, jnp.inf, measures["loss"])
  return Curves(losses=losses, final=final, diverged=broken)


def _seed_mesh(num_seeds):
  """Return a mesh of as many local devices as share the seeds evenly."""
  devices = jax.local_devices()
  size = max(n for n in range(1, len(devices) + 1) if num_seeds % n == 0)
  return jax.sharding.Mesh(np.asarray(devices[:size]), ("seeds",))


def training_curves(
  task: Any,
  make_tx: Callable[[PyTree], optax.GradientTransformation],
  hyper: PyTree,
  keys: Key[Array, "seeds"],
  *,
  num_steps: int,
  splits: tuple[str, ...] = ("train", "valid"),
  num_final_batches: int = 32,
  variants_at_once: int | None = None,
) -> Curves:
  """Train with every variant of an optimizer from every seed.

  The training loss is `task.loss_with_state(params, state, key, None)`,
  which draws its batch from the key. After the last update the losses are
  measured over `num_final_batches` batches of each split, the same ones for
  all variants, which takes most of the noise of single batches away.

  Args:
    task: a task; see `tasks.base.Task`.
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

  Returns:
    The curves; see `Curves`.

  Raises:
    ValueError: `num_steps` or `num_final_batches` is less than 1.
  """
  for name, value in (
    ("num_steps", num_steps),
    ("num_final_batches", num_final_batches),
  ):
    if value < 1:
      raise ValueError(f"{name}={value} must be at least 1.")

  def runs(hyper, keys):
    def run(key):
      tx = make_tx(hyper)
      return _train(task, tx, key, num_steps, splits, num_final_batches)

    return jax.vmap(run)(keys)

  def all_runs(hyper, keys):
    if hyper is None:
      return jax.tree.map(lambda x: x[None], runs(None, keys))
    if variants_at_once is None:
      return jax.vmap(runs, in_axes=(0, None))(hyper, keys)
    return jax.lax.map(
      lambda hyper: runs(hyper, keys), hyper, batch_size=variants_at_once
    )

  mesh = _seed_mesh(len(keys))
  program = jax.jit(
    jax.shard_map(
      all_runs,
      mesh=mesh,
      in_specs=(P(), P("seeds")),
      out_specs=P(None, "seeds"),
      # Schedules and fresh states start as constants, which the check
      # takes for values that all devices share.
      check_vma=False,
    )
  )
  keys = jax.device_put(keys, NamedSharding(mesh, P("seeds")))
  return program(hyper, keys)
