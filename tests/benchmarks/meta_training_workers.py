"""One meta-training set-up, measured by `bench_meta_training` from outside.

A worker is a process that builds one set-up, takes a first step, prints a
line, and then takes as many outer steps as each line of its standard input
says. Several workers take turns in this way, each in its own environment.

  python meta_training_workers.py '{"kind": "ours", "task": "mlp"}'

Kinds: `ours` (the outer loop), `peer` (learned_optimization's PES), and
parts of `ours`: `task` (the inner steps with plain SGD) and `unroll` (the
inner steps with the learned optimizer, without what evolution strategies
and resets add). A step is always the same work: 16 tasks, an antithetic
pair each, 50 inner steps.

The imports are in the functions: what is set before jax starts is part of
the set-up.
"""

import json
import os
import resource
import sys
import time

NUM_TASKS, TRUNCATION, MIN_HORIZON, MAX_HORIZON = 16, 50, 100, 1000
SIGMA, OUTER_RATE = 0.01, 1e-3
#: Inner steps of a step: every one of every perturbed copy.
INNER_STEPS = NUM_TASKS * 2 * TRUNCATION
TASKS = {
  "mlp": ("mlp_digits_32", {"batch_size": 64}),
  "transformer": ("transformer_recall", {"batch_size": 4}),
  "conv": ("conv_digits_8_16", {}),
}
PEERS = {
  "adafac": ("adafac_mlp_lopt", "AdafacMLPLOpt", {}),
  "adafac_fast": (
    "adafac_mlp_lopt",
    "AdafacMLPLOpt",
    {"concat_weights": False},
  ),
  "adafac_separate": (
    "adafac_mlp_lopt",
    "AdafacMLPLOpt",
    {"concat_weights": False, "make_separate_weights": True},
  ),
  "learned_adam": ("base", "LearnableAdam", {}),
}


def family_of(task):
  """Returns the task family of a name in `TASKS`."""
  from tasks import registry

  name, options = TASKS[task]
  return registry.family(name, **options)


def ours(task, options):
  """Our outer loop; returns what takes a step, and the bytes it keeps."""
  import jax
  from jax.flatten_util import ravel_pytree

  from meta_train.engine import training

  parts = training.build(settings(options), (family_of(task),))
  start, _ = ravel_pytree(parts.theta)
  state = parts.loop.init(start)
  kept = sum(x.nbytes for x in jax.tree.leaves(state))

  def step():
    nonlocal state
    state, metrics = parts.loop.step(state)
    return metrics.meta_loss

  return step, {"state_bytes": kept, "meta_parameters": start.size}


def settings(options):
  """Returns the settings of the reference work, with changes."""
  from meta_train.config import MetaTrainConfig

  reference = dict(
    num_tasks=NUM_TASKS,
    truncation=TRUNCATION,
    min_horizon=MIN_HORIZON,
    max_horizon=MAX_HORIZON,
    estimator="pes",
    sigma=SIGMA,
    objective="mean",
    outer_learning_rate=OUTER_RATE,
  )
  return MetaTrainConfig(**(reference | options))


def peer(task, options):
  """Their PES with one of their learned optimizers."""
  import importlib

  import jax
  import jax.numpy as jnp

  root = "learned_optimization"
  outer = f"{root}.outer_trainers"
  load = importlib.import_module
  module, name, arguments = PEERS[options["optimizer"]]
  lopt = getattr(load(f"{root}.learned_optimizers.{module}"), name)(**arguments)
  schedules = load(f"{outer}.truncation_schedule")

  class WholeUnrolls(schedules.LogUniformLengthSchedule):
    """Horizons that are multiples of the truncation, as ours are."""

    def init(self, key, outer_state):
      state = super().init(key, outer_state)
      length = TRUNCATION * jnp.round(state.length / TRUNCATION)
      return state.replace(length=length.astype(jnp.int32))

  step_of = load(f"{outer}.lopt_truncated_step").VectorizedLOptTruncatedStep(
    family_of(task),
    lopt,
    WholeUnrolls(MIN_HORIZON, MAX_HORIZON),
    num_tasks=NUM_TASKS,
    random_initial_iteration_offset=MAX_HORIZON,
  )
  learners = load(f"{outer}.gradient_learner")
  learner = learners.SingleMachineGradientLearner(
    lopt,
    [
      load(f"{outer}.truncated_pes").TruncatedPES(
        step_of,
        trunc_length=TRUNCATION,
        std=SIGMA,
        steps_per_jit=TRUNCATION,
      )
    ],
    load(f"{root}.optimizers.optax_opts").Adam(OUTER_RATE),
  )
  key = jax.random.PRNGKey(0)
  state = learner.init(key)
  theta = learner.get_meta_params(state)

  def step():
    nonlocal state, key
    key, now = jax.random.split(key)
    state, loss, _ = learner.update(state, now)
    return float(loss)

  sizes = [x.size for x in jax.tree.leaves(theta)]
  return step, {"meta_parameters": sum(sizes)}


def task(task, options):
  """The inner steps alone, with plain SGD."""
  import jax

  del options
  family = family_of(task)

  def start(key):
    cfg = family.sample(key)
    params = family.task_fn(cfg).init(key)
    return cfg, jax.tree.map(lambda x: x[None].repeat(2, axis=0), params)

  def unroll(held, key):
    cfg, params = held
    loss_of = family.task_fn(cfg).loss

    def step(params, key):
      loss, gradient = jax.value_and_grad(loss_of)(params, key, None)
      moved = jax.tree.map(lambda p, g: p - 0.01 * g, params, gradient)
      return moved, loss

    def one(params):
      _, losses = jax.lax.scan(step, params, jax.random.split(key, TRUNCATION))
      return losses.mean()

    return jax.vmap(one)(params)

  return over_tasks(start, unroll)


def unroll(task, options):
  """The inner steps with the learned optimizer, one theta for each copy."""
  import jax
  from jax.flatten_util import ravel_pytree

  import flt_lopt
  from meta_train.engine import training
  from meta_train.engine.unroll import Unroller
  from meta_train.estimators import pairs

  lopt = flt_lopt.LearnedOptimizer(training.optimizer_config(settings(options)))
  theta, unravel = ravel_pytree(lopt.init(jax.random.key(0)))
  unroller = Unroller(
    family=family_of(task),
    lopt=lopt,
    unravel=unravel,
    truncation=TRUNCATION,
    min_horizon=MIN_HORIZON,
    max_horizon=MAX_HORIZON,
    withhold=0.1,
    objective="mean",
  )

  def start(key):
    episode, run = unroller.start(key)
    epsilon = pairs.draw(key, SIGMA, 1, theta.size)
    return episode, pairs.copy(run, 1), epsilon

  def advance(held, key):
    episode, runs, epsilon = held
    _, result = pairs.advance(unroller, theta, epsilon, episode, runs, key)
    return result.loss

  return over_tasks(start, advance)


def over_tasks(start, unroll):
  """Returns a step that does an unroll of all tasks, sharded as ours are."""
  import jax
  import numpy as np

  mesh = jax.make_mesh(
    (len(jax.devices()),),
    ("tasks",),
    axis_types=(jax.sharding.AxisType.Auto,),
  )
  by_task = jax.sharding.PartitionSpec("tasks")

  def sharded(function):
    return jax.jit(
      jax.shard_map(
        jax.vmap(function),
        mesh=mesh,
        in_specs=by_task,
        out_specs=by_task,
        check_vma=False,
      )
    )

  split = jax.random.split
  held = sharded(start)(split(jax.random.key(0), NUM_TASKS))
  run, key = sharded(unroll), jax.random.key(1)

  def step():
    nonlocal key
    key, now = split(key)
    return float(np.mean(run(held, split(now, NUM_TASKS))))

  return step, {}


def main():
  wanted = json.loads(sys.argv[1])
  if wanted.get("cores"):
    os.sched_setaffinity(0, range(wanted["cores"]))
  cores = len(os.sched_getaffinity(0))
  if wanted["kind"] != "peer":
    os.environ["JAX_NUM_CPU_DEVICES"] = str(cores)
  if wanted.get("cache"):
    os.environ["JAX_COMPILATION_CACHE_DIR"] = wanted["cache"]
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
  make = {"ours": ours, "peer": peer, "task": task, "unroll": unroll}
  step, about = make[wanted["kind"]](wanted["task"], wanted.get("options", {}))
  loss = step()
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
  ready = {"cores": cores, "loss": loss, "peak_mb": peak, **about}
  print(json.dumps(ready), flush=True)
  for line in sys.stdin:
    begin = time.perf_counter()
    for _ in range(int(line)):
      loss = step()
    wall_s = time.perf_counter() - begin
    print(json.dumps({"wall_s": wall_s, "loss": loss}), flush=True)


if __name__ == "__main__":
  main()
