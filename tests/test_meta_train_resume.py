"""Kill a run at any moment, give the same command again: the same theta.

The killed processes get SIGKILL, which they cannot notice. States that come
back from a checkpoint are compared for every estimator, and for suites whose
states are of many kinds.
"""

import dataclasses
import os
import random
import time

import jax
import numpy as np
import pytest
import tiny_runs

from meta_train.command import flags
from meta_train.config import MetaTrainConfig
from meta_train.engine import training
from meta_train.estimators import ESTIMATORS
from meta_train.evaluation.problems import load_problems
from meta_train.run import run_folder, saved

NEEDS_KILL = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
STEPS = 1500
ARGUMENTS = (f"--outer_steps={STEPS}", "--num_devices=2", "--log_every=6")


def _kill_and_compare(tmp_path, monkeypatch, kills):
  """Runs to the end with kills, and once without."""
  killed = 0
  for number, moment in enumerate(kills):
    run = tiny_runs.Run(tmp_path / "parts", *ARGUMENTS)
    moment(run, number)
    killed += run.send() == -9
  assert killed >= len(kills) - 1
  resumed, resumed_rows = tiny_runs.run_here(
    tmp_path / "parts", monkeypatch, *ARGUMENTS
  )
  theta, rows = tiny_runs.run_here(tmp_path / "whole", monkeypatch, *ARGUMENTS)
  assert resumed.tobytes() == theta.tobytes()
  assert resumed_rows == rows
  assert rows[-1]["outer_step"] == STEPS
  table = (tmp_path / "parts" / "run" / "metrics.csv").read_text()
  assert len(table.splitlines()) == 1 + len(rows)
  # The same command on a finished run changes nothing.
  again, again_rows = tiny_runs.run_here(
    tmp_path / "parts", monkeypatch, *ARGUMENTS
  )
  assert again.tobytes() == theta.tobytes() and again_rows == rows


def _at_once(run, number):
  del number
  while (
    run.process.poll() is None and not (run.folder / "config.json").exists()
  ):
    time.sleep(0.002)


def _further_on(run, number):
  run.wait_for(max(tiny_runs.last_step(run.folder), 0) + 6 * number)


@NEEDS_KILL
def test_a_killed_run_ends_like_an_uninterrupted_one(tmp_path, monkeypatch):
  _kill_and_compare(tmp_path, monkeypatch, (_at_once, _further_on, _further_on))


@NEEDS_KILL
@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_nothing(tmp_path, monkeypatch):
  # From the start of the process over compiling to far into the run.
  moments = random.Random(0)

  def after_a_while(run, number):
    del number
    time.sleep(moments.uniform(0.0, 12.0))

  _kill_and_compare(tmp_path, monkeypatch, [after_a_while] * 20)


def _bits(state):
  leaves = []
  for leaf in jax.tree.leaves(state):
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      leaf = jax.random.key_data(leaf)
    leaves.append(np.asarray(leaf).tobytes())
  return leaves


def _stops_and_goes_on(config, families, at, more):
  """Takes outer steps with and without a stop at `at`; compares all bits."""

  def start():
    parts = training.build(config, families)
    return parts, run_folder.open_run(config)

  parts, folder = start()
  with folder:
    state, template = saved.start(parts, folder, 0)
    for _ in range(at):
      outer, _ = parts.loop.step(state.outer)
      state = state._replace(outer=outer)
    folder.save(at, saved.whole(parts, state, template))
    before = _bits(state)
    for _ in range(more):
      outer, _ = parts.loop.step(state.outer)
      state = state._replace(outer=outer)
  assert _bits(state) != before
  parts, folder = start()
  with folder:
    resumed, _ = saved.start(parts, folder, 0)
    assert _bits(resumed) == before
    assert int(resumed.outer.outer_step) == at
    for _ in range(more):
      outer, _ = parts.loop.step(resumed.outer)
      resumed = resumed._replace(outer=outer)
  assert _bits(resumed) == _bits(state)


@pytest.mark.parametrize("estimator", list(ESTIMATORS))
def test_every_estimator_resumes_bit_for_bit(tmp_path, monkeypatch, estimator):
  tiny_runs.write_task(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  config = flags.parse(tiny_runs.SETTINGS).config
  config = dataclasses.replace(
    config, estimator=estimator, num_devices=2, run_dir=str(tmp_path / "run")
  )
  families = load_problems(config).train
  _stops_and_goes_on(config, families, at=3, more=5)


# Batch statistics, integer tokens, keys, host photographs, inner training.
@pytest.mark.slow
@pytest.mark.parametrize(
  "suite, families",
  [
    ("vision", "mlp_digits_32_32_batch_norm,conv_digits_8_16"),
    ("language", "rnn_elman_dyck"),
    ("science", "siren_photographs_32x2,few_shot_sinusoids_32x2,quadratic_16"),
    ("science", "learned_optimizer_digits4,molecules_filters_24x2"),
    ("rl", "cart_pole_16"),
  ],
)
def test_suites_resume_bit_for_bit(tmp_path, suite, families):
  config = MetaTrainConfig(
    task_suite=suite,
    families=families,
    families_per_step=2,
    augment="reparametrize_tensor,delayed_gradient",
    num_tasks=2,
    num_devices=2,
    truncation=2,
    min_horizon=4,
    max_horizon=8,
    run_dir=str(tmp_path / "run"),
  )
  problems = load_problems(config)
  _stops_and_goes_on(config, problems.train, at=4, more=4)
