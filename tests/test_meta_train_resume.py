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
import slow_cases
import tiny_runs

from meta_train.command import flags
from meta_train.config import MetaTrainConfig
from meta_train.engine import training
from meta_train.estimators import ESTIMATORS
from meta_train.evaluation.problems import load_problems
from meta_train.run import run_folder, saved

NEEDS_KILL = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
STEPS = 1500
# As many as this process has: with others, rounding differs.
DEVICES = 4
ARGUMENTS = (f"--num_devices={DEVICES}", "--log_every=6")

# By estimator, with what else a state can be made of.
ESTIMATOR_FLAGS = {
  "pes": ("--failing_states=2", "--num_pairs=2"),
  "nres": ("--noise_period=6", "--expert=muon", "--expert_fade=900"),
  "es_single": ("--phases=memory:500,direction+step", "--outer_decay=-1"),
  "truncated_es": ("--shaping=rank", "--num_pairs=2", "--controller="),
  "full_es": ("--horizon_curriculum=900", "--wrong_num_steps=0.5"),
  "truncated_grad": ("--failing_states=2", "--expert=adamw"),
  "full_grad": ("--objective=log_validation",),
}
# Batch statistics, integer tokens, keys, host photographs, inner training.
SUITES = {
  "vision": "mlp_digits_32_32_batch_norm,conv_digits_8_16",
  "language": "rnn_elman_dyck,transformer_recall_16x1",
  "science": "siren_photographs_32x2,few_shot_sinusoids_32x2,"
  "learned_optimizer_digits4,molecules_filters_24x2,quadratic_16",
  "rl": "cart_pole_16",
  "mlp8": "mlp_digits_32,mlp_sprites@8_32",
  "quick": "mlp_digits_32,mlp_digits_16_tanh",
}
SUITE_STEPS = 60


def _kill_and_compare(tmp_path, monkeypatch, kills, arguments):
  """Runs to the end with kills, and once without."""
  for kill in kills:
    run = tiny_runs.Run(tmp_path / "parts", *arguments, devices=DEVICES)
    kill(run)
    assert run.send() == -9, run.text()

  def finish(folder):
    theta, rows = tiny_runs.run_here(folder, monkeypatch, *arguments)
    return (
      theta.tobytes(),
      rows,
      tiny_runs.rows(folder / "run", "validation.jsonl"),
    )

  resumed = finish(tmp_path / "parts")
  whole = finish(tmp_path / "whole")
  assert resumed == whole
  table = (tmp_path / "parts" / "run" / "metrics.csv").read_text()
  assert len(table.splitlines()) == 1 + len(whole[1])
  # The same command on a finished run changes nothing.
  assert finish(tmp_path / "parts") == whole


def _at_once(run):
  while (
    run.process.poll() is None and not (run.folder / "config.json").exists()
  ):
    time.sleep(0.002)


def _further_on(run):
  run.wait_for(max(tiny_runs.last_step(run.folder), 0) + 12)


def _while_it_starts(moments):
  """Kills while it imports, reads, compiles, or takes its first steps."""

  def kill(run):
    end_s = time.monotonic() + moments.uniform(0.0, 20.0)
    before = tiny_runs.last_step(run.folder)
    while time.monotonic() < end_s and run.process.poll() is None:
      # A start takes back the rows after its checkpoint.
      now = tiny_runs.last_step(run.folder)
      if now > before:
        break
      before = now
      time.sleep(0.002)

  return kill


def _while_it_trains(moments, most):
  """Kills at any point of an outer step, not more than so many further on."""

  def kill(run):
    done = max(tiny_runs.last_step(run.folder), 0)
    run.wait_for(done + moments.randrange(2, most))
    time.sleep(moments.uniform(0.0, 0.03))

  return kill


@NEEDS_KILL
def test_a_killed_run_ends_like_an_uninterrupted_one(tmp_path, monkeypatch):
  _kill_and_compare(
    tmp_path,
    monkeypatch,
    (_at_once, _further_on, _further_on),
    (*ARGUMENTS, f"--outer_steps={STEPS // 2}"),
  )


@NEEDS_KILL
@pytest.mark.slow
def test_a_killed_run_ends_alike_as_users_compile_it(tmp_path):
  """The other tests compile without optimizations, which may hide rounding."""
  arguments = ("--num_devices=2", "--log_every=6", f"--outer_steps={STEPS}")

  def start(folder):
    return tiny_runs.Run(tmp_path / folder, *arguments, xla_flags="")

  for _ in range(2):
    run = start("parts")
    _further_on(run)
    assert run.send() == -9, run.text()
  theta, rows = start("parts").finish()
  expected, all_rows = start("whole").finish()
  assert theta.tobytes() == expected.tobytes()
  assert rows == all_rows


# Twenty kills at random moments: two of each estimator, one in each suite.
@NEEDS_KILL
@pytest.mark.slow
@pytest.mark.parametrize("estimator", list(ESTIMATORS))
def test_killed_twice_at_random_every_estimator_ends_alike(
  tmp_path, monkeypatch, estimator
):
  moments = random.Random(estimator)
  flags_ = (f"--estimator={estimator}", *ESTIMATOR_FLAGS[estimator])
  _kill_and_compare(
    tmp_path,
    monkeypatch,
    (_while_it_trains(moments, STEPS // 2), _while_it_starts(moments)),
    (*ARGUMENTS, f"--outer_steps={STEPS}", *flags_),
  )


@NEEDS_KILL
@pytest.mark.slow
@pytest.mark.parametrize("suite", list(SUITES))
def test_killed_at_random_every_suite_ends_alike(tmp_path, monkeypatch, suite):
  moments = random.Random(suite)
  flags_ = ("--task=", f"--task_suite={suite}", f"--families={SUITES[suite]}")
  flags_ += ("--families_per_step=1", "--augment=reparametrize_tensor")
  if suite in ("quick", "mlp8"):
    flags_ += ("--validate_every=24", "--validation_steps=10")
  _kill_and_compare(
    tmp_path,
    monkeypatch,
    (_while_it_trains(moments, SUITE_STEPS // 2),),
    (*ARGUMENTS, f"--outer_steps={SUITE_STEPS}", *flags_),
  )


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


# The fast ones keep noise over unrolls, and differentiate.
@slow_cases.few_of("estimator", ESTIMATORS, "pes", "nres", "full_grad")
def test_every_estimator_resumes_bit_for_bit(tmp_path, monkeypatch, estimator):
  tiny_runs.write_task(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  config = flags.parse(tiny_runs.SETTINGS).config
  config = dataclasses.replace(
    config, estimator=estimator, num_devices=2, run_dir=str(tmp_path / "run")
  )
  families = load_problems(config).train
  _stops_and_goes_on(config, families, at=3, more=5)


@pytest.mark.slow
@pytest.mark.parametrize("suite", list(SUITES))
def test_suites_resume_bit_for_bit(tmp_path, suite):
  config = MetaTrainConfig(
    task_suite=suite,
    families=SUITES[suite],
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
