"""Evaluation: rows that are right, kept, and made again when they must be."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train import rows
from meta_train.evaluation import baselines, evaluate, run_rows, summary
from tasks.base import Task

OPTIONS = {"num_steps": 20, "num_seeds": 4, "num_final_batches": 2}


class Quadratic(Task):
  """Distance to a point; each seed starts elsewhere."""

  name = "quadratic"

  def init(self, key):
    return jnp.sin(jnp.arange(4.0) + jax.random.uniform(key))

  def loss(self, params, key, data):
    del key, data
    return jnp.sum(params**2)


class LearnedRate:
  """A learned optimizer whose only meta-parameter is Adam's rate."""

  config = "adam"

  def transform(self, theta, *, num_steps=None):
    assert num_steps == OPTIONS["num_steps"]
    return optax.adam(theta["rate"])

  def timestep_kernels(self, theta, lags):
    return {"direction": theta["rate"] * 0.9**lags}


def _theta(rate):
  return {"rate": jnp.float32(rate)}


def _run(folder, rate=0.03, **options):
  groups = []
  found = evaluate.evaluate_run(
    folder,
    [Quadratic()],
    LearnedRate(),
    _theta(rate),
    _theta(1e-4),
    on_group=groups.append,
    **OPTIONS,
    **options,
  )
  assert found == rows.read_rows(folder / evaluate.FILE_NAME).rows
  return found, groups


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp("run")
  _run(path)
  return path


@pytest.fixture
def copy(folder, tmp_path):
  path = tmp_path / evaluate.FILE_NAME
  path.write_bytes((folder / evaluate.FILE_NAME).read_bytes())
  return tmp_path


def test_rows_are_complete_and_plain_json(folder):
  lines = (folder / evaluate.FILE_NAME).read_text().splitlines()
  assert len(lines) == (2 + 7) * OPTIONS["num_seeds"]
  for line in lines:
    row = json.loads(line, parse_constant=pytest.fail)
    assert set(summary.REQUIRED) <= set(row)
    assert len(row["curve"]) == OPTIONS["num_steps"]


def test_same_optimizer_learned_or_not_ties(folder):
  results, problems = summary.summarize(
    rows.read_rows(folder / evaluate.FILE_NAME).rows
  )
  assert problems == []
  same = results[0].baselines["adam"][0.03]
  found = summary.compare_runs(results[0].learned, same)
  assert found.mean_ratio == pytest.approx(1, rel=1e-3)
  np.testing.assert_allclose(results[0].learned.curves, same.curves, rtol=1e-3)
  assert results[0].untrained.losses.min() > results[0].learned.losses.max()
  # The point is about 1 away from the start, so 20 steps need a large rate.
  assert results[0].tuned["adam"].learning_rate == 0.1


def test_kernels_are_written_for_both(folder):
  document, _ = rows.read_json(folder / evaluate.KERNELS)
  pair = document["kernels"]["direction"]
  assert document["lags"][:3] == [0, 1, 2]
  assert pair["learned"][1] == pytest.approx(0.03 * 0.9, rel=1e-4)
  assert pair["initial"][1] == pytest.approx(1e-4 * 0.9, rel=1e-4)


def test_rows_and_kernels_tell_the_outer_steps_of_their_weights(tmp_path):
  for known in (None, 7):
    found, _ = _run(tmp_path, rate=0.03 + (known or 0), outer_step=known)
    learned = {row["role"] for row in found if row.get("outer_step") == 7}
    assert learned == ({"learned", "untrained"} if known else set())
    document, _ = rows.read_json(tmp_path / evaluate.KERNELS)
    assert document.get("outer_step") == known


def test_nothing_is_computed_twice(copy):
  before = (copy / evaluate.FILE_NAME).read_bytes()
  _, groups = _run(copy)
  assert groups == []
  assert (copy / evaluate.FILE_NAME).read_bytes() == before


def test_new_theta_replaces_its_rows_only(copy):
  found, groups = _run(copy, rate=0.05)
  assert len(groups) == 1 and "flt" in groups[0]
  assert len(found) == (2 + 7) * OPTIONS["num_seeds"]


def test_interrupted_evaluation_continues_where_it_was(copy):
  path = copy / evaluate.FILE_NAME
  whole = path.read_bytes()
  path.write_bytes(whole[:-40])
  _, groups = _run(copy)
  assert len(groups) == 1 and "adam" in groups[0]
  assert path.read_bytes() == whole


def test_diverging_run_is_null_and_marked(tmp_path):
  baseline = baselines.Baseline(
    "sgd", "optax.sgd", lambda rate, steps: optax.sgd(rate), (0.1, 1e4)
  )
  found = evaluate.evaluate(
    [Quadratic()],
    [evaluate.baseline_candidate(baseline)],
    tmp_path / "rows.jsonl",
    **OPTIONS,
  )
  del found
  again = rows.read_rows(tmp_path / "rows.jsonl").rows
  good, bad = again[0], again[-1]
  assert not good["diverged"] and good["diverged_at"] is None
  assert bad["diverged"] and bad["curve"][-1] is None
  assert bad["final"]["train"]["loss"] is None
  assert bad["curve"][bad["diverged_at"] - 1] is not None
  assert bad["curve"][bad["diverged_at"]] is None
  assert summary.summarize(again)[0][0].tuned["sgd"].learning_rate == 0.1


def test_long_curves_are_averaged_over_blocks():
  curve, every = run_rows.thin(np.arange(450.0))
  assert every == 3 and len(curve) == 150
  assert curve[:2] == [1.0, 4.0]
  assert run_rows.thin(np.array([1.0, np.inf]))[0] == [1.0, np.inf]
