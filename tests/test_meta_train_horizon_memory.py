"""Memory of meta-training: bounded by the inner state, not by the horizon."""

import jax
import jax.numpy as jnp
import pytest
from jax.flatten_util import ravel_pytree

import flt_lopt
import tasks
from meta_train.engine.unroll import Unroller
from meta_train.estimators import ESTIMATORS, make_estimator

WHOLE = ("full_es", "full_grad")
NUM_TASKS = 4


class Parabola(tasks.Task):
  def init(self, key):
    return {"x": jax.random.normal(key, (3,)), "y": jnp.ones((2, 2))}

  def loss(self, params, key, data):
    noise = 0.1 * jax.random.normal(key)
    return sum(jnp.sum(jnp.square(p)) for p in params.values()) + noise


def estimator_of(name, family, config, horizon, **options):
  lopt = flt_lopt.LearnedOptimizer(config)
  theta, unravel = ravel_pytree(lopt.init(jax.random.key(0)))
  unroller = Unroller(
    family=family,
    lopt=lopt,
    unravel=unravel,
    truncation=10,
    min_horizon=10,
    max_horizon=horizon,
    withhold=0.1,
    objective="log",
  )
  estimator = make_estimator(name, unroller, theta.size, 0.01, **options)
  return estimator, unroller, theta


def num_bytes(shapes):
  # Of a key, those of its data.
  return sum(
    x.size * (8 if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else 4)
    for x in jax.tree.leaves(shapes)
  )


@pytest.mark.parametrize(
  "name, options, copies",
  [
    ("pes", {}, 2),
    ("es_single", {}, 2),
    ("truncated_es", {}, 2),
    ("truncated_grad", {}, 1),
    ("pes", {"num_pairs": 3}, 6),
    ("pes", {"failing_states": 4, "failing_share": 0.5}, 6),
    ("full_es", {}, 0),
  ],
)
def test_a_state_is_its_inner_states_and_little_more(name, options, copies):
  """The reference task and optimizer: digits, 64-32-10, defaults."""
  family = tasks.registry.family("mlp_digits_32")
  estimator, unroller, theta = estimator_of(
    name, family, flt_lopt.OptimizerConfig(), 1000, **options
  )
  key = jax.random.key(0)
  _, run = jax.eval_shape(unroller.start, key)
  inner = num_bytes(run)
  assert inner > 40_000
  # What is kept of perturbations is of theta's size, for each pair.
  kept = 2 * 4 * theta.size * options.get("num_pairs", 1)
  state = num_bytes(jax.eval_shape(estimator.init, key))
  assert copies * inner <= state <= copies * inner + kept + 500
  if name == "pes" and not options:
    # Twice the inner state, and the sum of the episode's perturbations.
    assert state <= 2 * inner + 4 * theta.size + 100


def quickly(name):
  quick = name in ("pes", "full_es")
  return name if quick else pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize(
  "name", [quickly(name) for name in ESTIMATORS if name != "full_grad"]
)
def test_no_estimator_needs_more_memory_for_longer_runs(name):
  """State and scratch of the compiled call; full_grad alone keeps a tape."""
  config = flt_lopt.OptimizerConfig(hidden_units=2, controller="off")
  family = tasks.single_task_to_family(Parabola())
  sizes = []
  for horizon in (20, 100_000):
    estimator, _, theta = estimator_of(name, family, config, horizon)
    keys = jax.random.split(jax.random.key(0), NUM_TASKS)
    state = jax.eval_shape(jax.vmap(estimator.init), keys)
    call = jax.jit(jax.vmap(estimator.estimate, (None, 0, 0)), donate_argnums=1)
    found = call.lower(theta, state, keys).compile().memory_analysis()
    if found is None:
      pytest.skip("this backend doesn't tell")
    sizes.append((num_bytes(state), found.temp_size_in_bytes))
    if name not in WHOLE:
      # Nothing of the state is held twice.
      assert found.alias_size_in_bytes >= 0.9 * num_bytes(state)
  assert sizes[1] == sizes[0]
