"""Runs of `python -m meta_train` that take little more than their start.

The task is three parameters. A run can be watched by its rows, and be sent
signals.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np

import flt_lopt
from meta_train.command import flags
from meta_train.run import whole

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMIT_S = 240

_TASK = """
import jax, jax.numpy as jnp

class Tiny:
  def init(self, key):
    return {"x": jax.random.normal(key, (3,))}

  def loss(self, params, key, data):
    noise = 0.1 * jax.random.normal(key, (3,))
    return jnp.sum((params["x"] - 1.0 + noise) ** 2)

class Other(Tiny):
  def init(self, key):
    return {"x": jax.random.normal(key, (3,)), "y": jnp.zeros((2, 2))}

  def loss(self, params, key, data):
    return super().loss(params, key, data) + jnp.sum((params["y"] - 1.0) ** 2)
"""

SETTINGS = (
  *("--task=tiny_task:Tiny", "--hidden_units=2", "--controller=off"),
  *("--truncation=3", "--min_horizon=6", "--max_horizon=12", "--num_tasks=4"),
  *("--checkpoint_every=4", "--log_every=2", "--noevaluate"),
  "--report_every=0",
)


def write_task(folder):
  """Writes the task's module."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "tiny_task.py").write_text(_TASK)


def run_here(folder, monkeypatch, *arguments):
  """Does a run in this process; returns theta and the rows."""
  write_task(folder)
  monkeypatch.syspath_prepend(folder)
  command = [*SETTINGS, *arguments, f"--run_dir={folder / 'run'}"]
  whole.run(flags.parse(command).config)
  return theta(folder / "run"), rows(folder / "run")


def run_on_two(folder, monkeypatch, *arguments):
  """Does a run in this process on two devices."""
  return run_here(folder, monkeypatch, "--num_devices=2", *arguments)


class Run:
  """One process of a run.

  Args:
    folder: where to start it; its run folder is `run` in there.
    arguments: further flags.
    devices: CPU devices of the process.
    output: file descriptor that it writes to; None: the file `log`.
    xla_flags: of the process; None: those of the tests.
  """

  def __init__(
    self, folder, *arguments, devices=2, output=None, xla_flags=None
  ):
    write_task(folder)
    self.folder = folder / "run"
    self.log = folder / "log"
    path = os.pathsep.join([str(folder), str(ROOT)])
    with self.log.open("w") as log:
      self.process = subprocess.Popen(
        [
          *(sys.executable, "-m", "meta_train", *SETTINGS, *arguments),
          f"--run_dir={self.folder}",
        ],
        cwd=folder,
        stdout=log if output is None else output,
        stderr=log if output is None else output,
        env=os.environ
        | {
          "JAX_PLATFORMS": "cpu",
          "JAX_NUM_CPU_DEVICES": str(devices),
          "PYTHONPATH": path,
        }
        | ({} if xla_flags is None else {"XLA_FLAGS": xla_flags}),
      )

  def wait(self, limit_s=LIMIT_S):
    """Waits for the end and returns the exit code."""
    try:
      return self.process.wait(limit_s)
    finally:
      if self.process.poll() is None:
        self.process.kill()

  def finish(self):
    """Waits for success and returns theta and the rows."""
    assert self.wait() == 0, self.text()
    return theta(self.folder), rows(self.folder)

  def wait_for(self, outer_step):
    """Waits until there is a row of this outer step or a later one."""
    limit_s = time.monotonic() + LIMIT_S
    while self.process.poll() is None and last_step(self.folder) < outer_step:
      assert time.monotonic() < limit_s, self.text()
      time.sleep(0.002)

  def send(self, number=signal.SIGKILL):
    """Sends a signal and returns the exit code."""
    self.process.send_signal(number)
    return self.wait()

  def text(self):
    return self.log.read_text()


def theta(folder):
  """Returns the meta-parameters as one array."""
  _, tree = flt_lopt.load(folder / "theta.safetensors")
  leaves = jax.tree.leaves(tree)
  return np.concatenate([np.asarray(leaf).ravel() for leaf in leaves])


def rows(folder, name="metrics.jsonl"):
  """Returns the whole rows, without what differs from start to start."""
  try:
    text = (folder / name).read_text()
  except FileNotFoundError:
    return []
  return [
    {
      column: value
      for column, value in json.loads(line).items()
      if not column.endswith(("_s", "_per_s"))
    }
    for line in text.splitlines(keepends=True)
    if line.endswith("\n")
  ]


def last_step(folder):
  """Returns the outer step of the last row, -1 before the first."""
  return max((row["outer_step"] for row in rows(folder)), default=-1)


def free_port():
  """Returns a port that nobody listens on."""
  with socket.create_server(("localhost", 0)) as server:
    return server.getsockname()[1]
