"""How good theta is on tasks that meta-training does not see.

The tasks are the suite's validation tasks, never its held-out ones. Each is
trained from a few seeds, always the same, with theta fixed. With L the mean
of the normalised training loss over the last tenth of such a run, averaged
over seeds as log(L + c) with c = 1e-5, and the index 0 for the untrained
optimizer,

    gain = log(L + c) - log(L_0 + c),
    score = mean over tasks of the gain, at most log(10) either way,

so that 0 is as good as untrained and -0.7 is half the loss. Without the bound
a few tasks, whose loss goes down to nothing, would make up most of it; a single
task, such as a user's own, has none. A run that diverges counts the largest
loss that its task knows.

Main names: `Validation`, `score`.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import flt_lopt
from meta_train.engine.unroll import Theta, Unroller
from meta_train.run import memory_maps
from tasks.base import single_task_to_family
from tasks.hosted import hosted_family

NUM_SEEDS = 4
FLOOR = 1e-5
#: What a task counts at most in the score, in e-folds of its loss.
MAX_GAIN = math.log(10.0)
_KEY = 7_654_321


def score(gains: Float[np.ndarray, "tasks"]) -> float:
  """Returns the score of gains, which is low where theta is good.

  Args:
    gains: of all tasks; if one is NaN, so is the score.
  """
  if gains.size == 1:
    return float(gains[0])
  return float(np.mean(np.clip(gains, -MAX_GAIN, MAX_GAIN)))


class Validation:
  """Validation tasks as compiled programs, made when first used; final.

  Args:
    tasks: the tasks.
    lopt: the learned optimizer.
    unravel: turns flat meta-parameters into a pytree.
    num_steps: inner steps of each run, rounded up to a multiple of 10.
    devices: to share the seeds among; None: all.
  """

  def __init__(
    self,
    tasks: tuple[Any, ...],
    lopt: flt_lopt.LearnedOptimizer,
    unravel: Any,
    *,
    num_steps: int,
    devices: Sequence[jax.Device] | None = None,
  ):
    devices = jax.local_devices() if devices is None else devices
    self.names = tuple(task.name for task in tasks)
    tenth = math.ceil(num_steps / 10)
    self._programs = [
      _program(_unroller(task, lopt, unravel, tenth), devices) for task in tasks
    ]

  def losses(self, theta: Theta) -> Float[np.ndarray, "tasks"]:
    """Returns the log of the loss at the end, by task.

    Args:
      theta: flat meta-parameters.
    """
    seeds = np.arange(NUM_SEEDS, dtype=np.int32)
    found = [
      np.mean(jax.device_get(program(np.asarray(theta), seeds)))
      for program in self._programs
    ]
    if memory_maps.is_crowded():
      memory_maps.drop(self._programs)
    return np.array(found, np.float64)


def _unroller(task, lopt, unravel, tenth: int) -> Unroller:
  return Unroller(
    family=hosted_family(single_task_to_family(task)),
    lopt=lopt,
    unravel=unravel,
    truncation=tenth,
    min_horizon=10 * tenth,
    max_horizon=10 * tenth,
    withhold=0.0,
    objective="log",
    log_floor=FLOOR,
  )


def _program(unroller: Unroller, devices: Sequence[jax.Device]):
  """Returns the compiled function of theta and seeds."""
  size = max(n for n in range(1, len(devices) + 1) if NUM_SEEDS % n == 0)
  mesh = jax.make_mesh(
    (size,),
    ("seeds",),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=devices[:size],
  )
  by_seed = jax.sharding.PartitionSpec("seeds")

  def run(theta: Theta, seed) -> Float[Array, ""]:
    key = jax.random.fold_in(jax.random.key(_KEY), seed)
    start_key, unroll_key = jax.random.split(key)
    episode, run = unroller.start(start_key)

    def unroll(run, step):
      at = episode._replace(step=step * unroller.truncation)
      run, result = unroller.advance(
        theta, at, run, jax.random.fold_in(unroll_key, step)
      )
      return run, result.reported

    _, losses = jax.lax.scan(unroll, run, jnp.arange(10, dtype=jnp.int32))
    return losses[-1]

  return jax.jit(
    jax.shard_map(
      jax.vmap(run, (None, 0)),
      mesh=mesh,
      in_specs=(jax.sharding.PartitionSpec(), by_seed),
      out_specs=by_seed,
      check_vma=False,
    )
  )
