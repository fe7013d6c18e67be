"""Kill a run at any moment, give the same command again: the same theta.

The killed process gets SIGKILL, which it cannot notice, first while it
compiles, then after the first row, then further on.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import flt_lopt

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUTER_STEPS = 60
ARGUMENTS = (
  "--task_suite=quick",
  f"--outer_steps={OUTER_STEPS}",
  *("--num_tasks=2", "--num_devices=2", "--hidden_units=2"),
  *("--truncation=3", "--min_horizon=6", "--max_horizon=12"),
  *("--checkpoint_every=4", "--log_every=2", "--noevaluate"),
)
# Kill when there are this many rows; None: as soon as the folder is there.
KILLS = (None, 1, 15)


def _start(folder, log):
  command = [sys.executable, "-m", "meta_train", *ARGUMENTS]
  return subprocess.Popen(
    [*command, f"--run_dir={folder}"],
    cwd=ROOT,
    stdout=log,
    stderr=log,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
  )


def _rows(folder):
  try:
    text = (folder / "metrics.jsonl").read_text()
  except FileNotFoundError:
    return []
  return [
    json.loads(line)
    for line in text.splitlines(keepends=True)
    if line.endswith("\n")
  ]


def _reached(folder, rows):
  if rows is None:
    return (folder / "config.json").exists()
  return len(_rows(folder)) >= rows


def _finish(folder, log_path):
  with log_path.open("w") as log:
    assert _start(folder, log).wait(timeout=240) == 0, log_path.read_text()
  config, theta = flt_lopt.load(folder / "theta.safetensors")
  # Times differ between runs; the rest may not.
  rows = [
    {name: x for name, x in row.items() if not name.endswith(("_s", "_per_s"))}
    for row in _rows(folder)
  ]
  return config, theta, rows


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_run_ends_like_an_uninterrupted_one(tmp_path):
  log_path = tmp_path / "log"
  config, theta, rows = _finish(tmp_path / "whole", log_path)
  kills = 0
  for wanted in KILLS:
    with log_path.open("w") as log:
      process = _start(tmp_path / "parts", log)
      limit_s = time.monotonic() + 240
      while process.poll() is None and not _reached(tmp_path / "parts", wanted):
        assert time.monotonic() < limit_s, log_path.read_text()
        time.sleep(0.005)
      process.kill()
      kills += process.wait() == -9
  assert kills >= 2, log_path.read_text()
  resumed_config, resumed, resumed_rows = _finish(tmp_path / "parts", log_path)
  assert resumed_config == config
  for a, b in zip(
    jax.tree.leaves(resumed), jax.tree.leaves(theta), strict=True
  ):
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
  assert resumed_rows == rows
  assert rows[-1]["outer_step"] == OUTER_STEPS
  # The same command on a finished run changes nothing.
  _, again, again_rows = _finish(tmp_path / "parts", log_path)
  equal = jax.tree.map(np.array_equal, again, theta)
  assert all(jax.tree.leaves(equal))
  assert again_rows == rows
