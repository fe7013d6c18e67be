"""Speed of the inner problems: each alone, and the held-out suite at once.

  python tests/benchmarks/bench_tasks.py                     the suite's bar
  python tests/benchmarks/bench_tasks.py --rows=task --problems=mlp_digits_48

Rows, one JSON line each:
- `suite`: seconds that one seed of `--num_steps` steps of Adam takes on all
  tasks of a held-out suite, one after the other, compilation aside, on all
  cores: each task is compiled, and then timed once. Its slowest tasks too.
- `task`: of each problem the parameters, the operations of a step (loss and
  gradient), steps of Adam per second (the best of three calls of 20 steps,
  after one that compiles), seconds to compile, and GFLOP/s.
"""

import argparse
import json
import os
import platform
import time

import jax
import optax

import tasks
from tasks import cost, listing, registry


def print_row(row, **values):
  """Prints one JSON line with the machine."""
  machine = {
    "device": platform.processor() or platform.machine(),
    "cores": len(os.sched_getaffinity(0)),
  }
  print(json.dumps({"row": row, **machine, **values}), flush=True)


def compiled_training(task, num_steps):
  """Compiles one run of Adam; returns it and the seconds it took."""
  optimizer = optax.adam(1e-3)

  def step(carry, key):
    params, model_state, state = carry
    (loss, model_state), gradient = jax.value_and_grad(
      task.loss_with_state, has_aux=True
    )(params, model_state, key, None)
    updates, state = optimizer.update(gradient, state)
    return (optax.apply_updates(params, updates), model_state, state), loss

  def run(key):
    params, model_state = task.init_with_state(key)
    carry = params, model_state, optimizer.init(params)
    _, losses = jax.lax.scan(step, carry, jax.random.split(key, num_steps))
    return losses[-1]

  begin = time.perf_counter()
  program = jax.jit(run).lower(jax.random.key(0)).compile()
  return program, time.perf_counter() - begin


def suite(name, num_steps):
  """Prints how long one seed of all held-out tasks of a suite takes."""
  seconds, compile_s = {}, 0.0
  for task in tasks.get_suite(name).held_out:
    run, task_compile_s = compiled_training(task, num_steps)
    compile_s += task_compile_s
    begin = time.perf_counter()
    run(jax.random.key(0)).block_until_ready()
    seconds[task.name] = time.perf_counter() - begin
  slowest = sorted(seconds, key=seconds.get, reverse=True)[:8]
  print_row(
    "suite",
    suite=name,
    num_tasks=len(seconds),
    num_steps=num_steps,
    wall_s=round(sum(seconds.values()), 2),
    compile_s=round(compile_s, 1),
    slowest_s={task: round(seconds[task], 2) for task in slowest},
  )


def single(name):
  """Prints what a step of one problem costs."""
  task = registry.task(name)
  begin = time.perf_counter()
  rate = listing.steps_per_second(task)
  wall_s = time.perf_counter() - begin
  flops = cost.flops_per_step(task)
  print_row(
    "task",
    problem=name,
    parameters=cost.num_parameters(task),
    mflop=round(flops / 1e6, 3),
    steps_per_s=round(rate),
    gflop_per_s=round(flops * rate / 1e9, 2),
    compile_s=round(wall_s - 80 / rate, 1),
  )


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--rows", default="suite")
  parser.add_argument("--suite", default="held_out_small")
  parser.add_argument("--num_steps", type=int, default=2000)
  parser.add_argument("--problems", default="", help="names; empty: all")
  arguments = parser.parse_args()
  rows = arguments.rows.split(",")
  if "suite" in rows:
    suite(arguments.suite, arguments.num_steps)
  if "task" in rows:
    chosen = [name for name in arguments.problems.split(",") if name]
    for name in chosen or registry.list_problems():
      single(name)


if __name__ == "__main__":
  main()
