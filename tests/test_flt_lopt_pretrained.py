"""The shipped weights do what their model card says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flt_lopt
import tasks
from meta_train.evaluation import baselines, curves, evaluate
from tasks import registry

STEPS, SEEDS = 200, 16


@pytest.fixture(scope="module")
def results():
  """Final training losses on the held-out task of the quick suite."""
  pytest.importorskip("sklearn")
  (task,) = tasks.get_suite("quick").held_out
  keys = evaluate.seed_keys(0, SEEDS)
  adam = baselines.get_baseline("adam")
  rates = baselines.half_decades(-4, 7)
  assert rates[0] == 1e-4 and rates[-1] == 1e-1
  tuned = curves.training_curves(
    task,
    lambda rate: adam.factory(rate, STEPS),
    jnp.asarray(rates),
    keys,
    num_steps=STEPS,
  )
  # The learning rate is a multiplier: 1 is what was learned.
  learned = curves.training_curves(
    task,
    lambda rate: flt_lopt.flt(STEPS, weights="flt-quick", learning_rate=rate),
    jnp.ones(1),
    keys,
    num_steps=STEPS,
  )
  return [np.asarray(c.final["train"]["loss"]) for c in (tuned, learned)]


def test_flt_quick_beats_the_best_of_seven_adams(results):
  tuned, learned = results
  best = tuned[tuned.mean(axis=1).argmin()]
  assert len(tuned) == 7 and np.all(np.isfinite(learned))
  assert learned.mean() < 0.5 * best.mean()
  assert np.mean(learned[0] < best) > 0.5


def test_flt_quick_says_how_it_came_to_be():
  provenance = flt_lopt.read_provenance("flt-quick")
  assert provenance["task_suite"] == "quick"
  assert provenance["settings"]["estimator"] == "pes"
  assert not provenance["git_revision"].endswith("+")


def test_flt_starter_holds_in_long_runs_of_a_deep_network():
  """Weights before these broke it by steps that were too long for both."""
  pytest.importorskip("sklearn")
  family = registry.family("mlp_digits_32x4", "meta_train")
  task = family.task_fn(family.sample(jax.random.key(0)))
  found = curves.training_curves(
    task,
    lambda rate: flt_lopt.flt(6000, learning_rate=rate),
    jnp.ones(1),
    evaluate.seed_keys(0, 3),
    num_steps=6000,
  )
  assert np.all(np.asarray(found.final["train"]["loss"]) < 0.01)


def test_weights_load_inside_a_trace_and_leak_nothing(tmp_path):
  config, theta = flt_lopt.load("flt-quick")
  path = tmp_path / "theta.safetensors"
  flt_lopt.save(path, config, theta)
  params = {"w": jnp.ones(3)}

  def update(grads):
    tx = flt_lopt.flt(50, weights=path)
    return tx.update(grads, tx.init(params), params)[0]

  first = jax.jit(update)(params)
  again = update(params)  # From the cache that the trace has filled.
  np.testing.assert_allclose(first["w"], again["w"], rtol=1e-6)
