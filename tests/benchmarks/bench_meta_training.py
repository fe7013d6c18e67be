"""Speed of meta-training, next to learned_optimization, and where it goes.

  python tests/benchmarks/bench_meta_training.py \
      --peer_python=/path/to/python --peer_path=/path/to/learned_optimization

The reference work (`--tasks=mlp`) is PES with sigma 0.01 on scikit-learn's
digits: an MLP 64-32-10 with ReLU, batch 64, softmax cross-entropy; 16 tasks,
an antithetic pair each, unrolls of 50 inner steps, horizons log-uniform in
100..1000, Adam(1e-3) outside. Every inner step of every perturbed copy
counts, 1,600 in each outer step; an outer step ends when its loss is on the
host. `transformer` is a language model of two blocks, `conv` a conv net of
two layers; both packages train the very same task, with the same horizons,
which end where unrolls end.

Each set-up is a process of its own, and they take turns: 3 outer steps to
warm up, then `--rounds` turns of about `--turn_s` seconds each. Rates are
medians over turns, ratios medians of ratios within a round. The peer's
optimizers are its `AdafacMLPLOpt` (`adafac`), the form of it that is computed
by scalars (`adafac_fast`), and `LearnableAdam` (`learned_adam`), the floor of
its engine. Without `--peer_python` only ours are measured.

Rows, one JSON line each:
- `rate`: inner steps per second of a set-up; `start_s` from the start of the
  process to the end of the first outer step, compilation included.
- `profile`: microseconds of an inner step spent on the task (plain SGD),
  memory and step size (the learned optimizer with one hidden unit and no
  controller, less the task), network (the other hidden units), controller,
  and evolution strategies (all of the outer step that is not unroll:
  perturbations, resets, theta, host); the last as `overhead` too.
- `compile`: `start_s` with an empty compilation cache and with a filled one.
- `memory`: bytes of the outer state and peak of the process, by horizon.

Seen on two cores of a shared machine (jax 0.10.2, `--tasks=mlp --rounds=5`):

  ours            32,600 inner steps/s, 1.55 times those of one core
  adafac           3,150, ours 10.3 times as many
  adafac_fast      7,690, 4.4 times
  learned_adam    12,700, 2.5 times
  an inner step   30.7 us: the task 13.8, the memory 10.0, the network 5.8, the
                  controller 1.8, evolution strategies none that is seen
  first step      after 10.4 s with an empty cache, 3.2 s with a filled one
                  (peers: 15 to 42 s)
  outer state     1.90 MB, whether horizons end at 1,000 or at 10,000
  transformer      2,120 inner steps/s, adafac 561, ours 4.0 times as many
  conv            20,800 inner steps/s, adafac 3,550, ours 5.7 times as many

The task alone takes 0.66 MFLOP a step, so 48 GFLOP/s in its own 13.8 us; the
rest is bound by the memory and network of 2,410 parameters, about 130
operations and 60 bytes each.
"""

import argparse
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
INNER_STEPS = 1600
WARM_UP = 3
PEERS = ("adafac", "adafac_fast", "learned_adam")
#: From a part to the next, what an inner step gains.
PARTS = {
  "task": ("task", {}),
  "memory": ("unroll", {"controller": "off", "hidden_units": 1}),
  "network": ("unroll", {"controller": "off"}),
  "controller": ("unroll", {}),
  "evolution": ("ours", {}),
}


class Worker:
  """A process with one set-up; see `meta_training_workers`."""

  def __init__(self, name, kind, task, *, options=None, python=None, **more):
    self.name = name
    wanted = {"kind": kind, "task": task, "options": options or {}, **more}
    path = os.pathsep.join(
      [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    begin = time.perf_counter()
    self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
    self._process = subprocess.Popen(
      [
        python or sys.executable,
        HERE / "meta_training_workers.py",
        json.dumps(wanted),
      ],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._log,
      text=True,
      env={**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    self.about = self._answer()
    self.start_s = time.perf_counter() - begin
    self.seconds: list[float] = []
    self._steps = 1

  def warm_up(self, turn_s):
    """Takes steps, and finds out how many make a turn."""
    self._run(WARM_UP - 1)
    self._steps = max(1, round(turn_s / (self._run(1))))

  def take_turn(self):
    self.seconds.append(self._run(self._steps) / self._steps)

  def close(self):
    self._process.stdin.close()
    self._process.wait()

  def _run(self, steps):
    self._process.stdin.write(f"{steps}\n")
    self._process.stdin.flush()
    return self._answer()["wall_s"]

  def _answer(self):
    line = self._process.stdout.readline()
    if not line:
      self._log.seek(0)
      raise RuntimeError(f"{self.name} ended: {self._log.read()[-2000:]}")
    return json.loads(line)


def take_turns(workers, rounds, turn_s):
  """Measures workers in turn, so that all see the same machine."""
  for worker in workers:
    worker.warm_up(turn_s)
  for _ in range(rounds):
    for worker in workers:
      worker.take_turn()
  for worker in workers:
    worker.close()


def print_row(row, **values):
  """Prints one JSON line with the machine."""
  machine = {"device": platform.processor() or platform.machine()}
  print(json.dumps({"row": row, **machine, **values}), flush=True)


def rates(task, arguments):
  """Prints the rates of ours and of the peer's optimizers."""
  workers = [Worker("ours", "ours", task)]
  if task == "mlp":
    workers.append(Worker("ours, one core", "ours", task, cores=1))
  for name in arguments.peers.split(",") if arguments.peer_python else ():
    workers.append(
      Worker(
        name,
        "peer",
        task,
        options={"optimizer": name},
        python=arguments.peer_python,
      )
    )
  take_turns(workers, arguments.rounds, arguments.turn_s)
  seconds = {worker.name: np.array(worker.seconds) for worker in workers}
  for worker in workers:
    own = seconds[worker.name]
    rate = INNER_STEPS / own
    print_row(
      "rate",
      task=task,
      optimizer=worker.name,
      inner_steps_per_s=round(float(np.median(rate))),
      lowest_highest=[round(float(rate.min())), round(float(rate.max()))],
      ours_over_this=round(float(np.median(own / seconds["ours"])), 2),
      start_s=round(worker.start_s, 1),
      peak_mb=worker.about["peak_mb"],
      meta_parameters=worker.about["meta_parameters"],
      cores=worker.about["cores"],
      rounds=arguments.rounds,
      turn_s=arguments.turn_s,
    )


def profile(task, arguments):
  """Prints where the time of our inner step goes."""
  workers = [
    Worker(name, kind, task, options=options)
    for name, (kind, options) in PARTS.items()
  ]
  take_turns(workers, arguments.rounds, arguments.turn_s)
  micros = [
    float(np.median(worker.seconds)) / INNER_STEPS * 1e6 for worker in workers
  ]
  gains = np.diff([0.0, *micros])
  print_row(
    "profile",
    task=task,
    total_us=round(micros[-1], 2),
    **{f"{name}_us": round(gain, 2) for name, gain in zip(PARTS, gains)},
    overhead=round(gains[-1] / micros[-1], 3),
    task_mflop=round(task_flops(task) / 1e6, 2),
    rounds=arguments.rounds,
    turn_s=arguments.turn_s,
  )


def task_flops(task):
  """Returns the operations of one inner step of the task."""
  sys.path[:0] = [str(ROOT), str(HERE)]
  from meta_training_workers import family_of

  from tasks import cost
  from tasks.fixed import FixedTask

  return cost.flops_per_step(FixedTask(family_of(task)))


def compilation(task):
  """Prints the time to the first step, without and with compiled programs."""
  with tempfile.TemporaryDirectory() as cache:
    seconds = []
    for _ in range(2):
      worker = Worker("ours", "ours", task, cache=cache)
      worker.close()
      seconds.append(round(worker.start_s, 1))
  print_row(
    "compile", task=task, start_s_cold=seconds[0], start_s_warm=seconds[1]
  )


def memory(task):
  """Prints the memory of a run whose horizons are 1 and 10 times as long."""
  for horizon in (1000, 10_000):
    worker = Worker("ours", "ours", task, options={"max_horizon": horizon})
    worker.warm_up(0.1)
    worker.close()
    about = worker.about
    print_row(
      "memory",
      task=task,
      max_horizon=horizon,
      state_bytes=about["state_bytes"],
      peak_mb=about["peak_mb"],
    )


def main():
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--tasks", default="mlp,transformer,conv")
  parser.add_argument("--rows", default="rate,profile,compile,memory")
  parser.add_argument("--peer_python", default="", help="its interpreter")
  parser.add_argument("--peer_path", default="", help="folder of its package")
  parser.add_argument("--peers", default=",".join(PEERS))
  parser.add_argument("--rounds", type=int, default=7)
  parser.add_argument("--turn_s", type=float, default=0.7)
  arguments = parser.parse_args()
  if arguments.peer_path:
    os.environ["PYTHONPATH"] = os.pathsep.join(
      filter(None, [arguments.peer_path, os.environ.get("PYTHONPATH")])
    )
  rows = arguments.rows.split(",")
  for task in arguments.tasks.split(","):
    if "rate" in rows:
      rates(task, arguments)
    if "profile" in rows:
      profile(task, arguments)
    if task == "mlp" and "compile" in rows:
      compilation(task)
    if task == "mlp" and "memory" in rows:
      memory(task)


if __name__ == "__main__":
  main()
