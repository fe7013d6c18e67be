"""Every setting of meta-training gets to where it has its effect.

A run is put together, nothing is compiled, and what its parts were given is
held against the settings, each of which has another value than its default.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import tasks
from meta_train import config as config_lib
from meta_train.config import MetaTrainConfig
from meta_train.engine import outer_optimizer, training
from meta_train.engine.supervision import Supervision
from meta_train.engine.unroll import Unroller

SETTINGS = {
  "num_tasks": 6,
  "families_per_step": 1,
  "truncation": 7,
  "balance_families": True,
  "min_horizon": 21,
  "max_horizon": 70,
  "withhold_num_steps": 0.25,
  "wrong_num_steps": 0.375,
  "horizon_curriculum": 9,
  "objective": "log_last",
  "log_floor": 0.02,
  "estimator": "truncated_es",
  "num_pairs": 3,
  "sigma": 0.5,
  "sigma_scale": "memory:0.25",
  "shaping": "rank",
  "failing_states": 2,
  "failing_share": 0.75,
  "expert": "muon",
  "expert_learning_rate": 0.125,
  "expert_direction": "0.5:0.2",
  "expert_magnitude": "0.6:0.1",
  "expert_fade": 77,
  "outer_learning_rate": 0.01,
  "rate_scale": "step:0.5",
  "outer_warmup": 4,
  "outer_decay": 40,
  "outer_gradient_clip": 2.0,
  "task_gradient_clip": 0.7,
  "phases": "memory:3,step",
  "theta_average": 0.9,
}
#: Only `nres` has it, which has no buffer of states: it has a test of its own.
APART = {"noise_period"}


class Point(tasks.Task):
  """Three parameters."""

  name = "point"

  def init(self, key):
    return {"x": jax.random.normal(key, (3,))}

  def loss(self, params, key, data):
    del key, data
    return jnp.sum(jnp.square(params["x"]))


FAMILIES = tuple(tasks.single_task_to_family(Point()) for _ in range(2))


def _build(config, monkeypatch):
  """Returns the parts, and what estimators and loop were given by name."""
  estimators, loops = [], []
  make, loop = training.make_estimator, training.OuterLoop

  def make_estimator(name, unroller, num_theta, sigma, **options):
    given = {"name": name, "unroller": unroller, "sigma": sigma, **options}
    estimators.append({**given, "num_theta": num_theta})
    return make(name, unroller, num_theta, sigma, **options)

  def make_loop(made, optimizer, **options):
    loops.append({"optimizer": optimizer, **options})
    return loop(made, optimizer, **options)

  monkeypatch.setattr(training, "make_estimator", make_estimator)
  monkeypatch.setattr(training, "OuterLoop", make_loop)
  parts = training.build(config, FAMILIES)
  (given,) = loops
  return parts, estimators, given


@pytest.fixture(scope="module")
def built():
  config = MetaTrainConfig(
    **SETTINGS,
    seed=5,
    outer_steps=50,
    hidden_units=2,
    controller="off",
    num_devices=2,
  )
  with pytest.MonkeyPatch.context() as patch:
    return _build(config, patch)


def test_no_setting_is_at_its_default_here():
  names = [field.name for field in config_lib.options()]
  first, last = names.index("num_tasks"), names.index("theta_average")
  assert set(names[first : last + 1]) == set(SETTINGS) | APART
  for field in config_lib.options():
    if field.name in SETTINGS:
      assert SETTINGS[field.name] != field.default, field.name


def test_unrolls_are_what_the_settings_say(built):
  parts, estimators, _ = built
  assert len(estimators) == 2
  for given in estimators:
    unroller = given["unroller"]
    assert unroller.family.name == "point"
    assert unroller.lopt is parts.lopt and unroller.unravel is parts.unravel
    rest = {
      field.name: getattr(unroller, field.name)
      for field in dataclasses.fields(Unroller)
      if field.name not in ("family", "lopt", "unravel")
    }
    assert rest == {
      "truncation": 7,
      "min_horizon": 21,
      "max_horizon": 70,
      "withhold": 0.25,
      "wrong": 0.375,
      "objective": "log_last",
      "log_floor": 0.02,
      "curriculum": 9,
      "supervision": Supervision(
        expert="muon",
        learning_rate=0.125,
        direction=(0.5, 0.2),
        magnitude=(0.6, 0.1),
        fade=77,
      ),
    }
  config = parts.lopt.config
  assert (config.hidden_units, config.controller) == (2, "off")


def test_estimators_are_what_the_settings_say(built, monkeypatch):
  parts, estimators, _ = built
  scale, _ = ravel_pytree(
    {
      name: jax.tree.map(
        lambda x, by=0.25 if name == "memory" else 1.0: np.full_like(x, by),
        group,
      )
      for name, group in parts.theta.items()
    }
  )
  for given in estimators:
    np.testing.assert_allclose(given["sigma"], 0.5 * scale)
    others = ("sigma", "unroller")
    assert {name: x for name, x in given.items() if name not in others} == {
      "name": "truncated_es",
      "num_theta": scale.size,
      "num_pairs": 3,
      "noise_period": 0,
      "shaping": "rank",
      "failing_states": 2,
      "failing_share": 0.75,
    }
  assert parts.names == ("point", "point")
  # Two families of three pairs each, one visited in an outer step.
  assert parts.inner_steps == 6 * 2 * 3 * 7
  nres = dataclasses.replace(
    MetaTrainConfig(num_devices=1), estimator="nres", noise_period=100
  )
  _, (given, _), _ = _build(nres, monkeypatch)
  assert (given["name"], given["noise_period"]) == ("nres", 100)


def test_the_loop_is_what_the_settings_say(built):
  parts, _, given = built
  _, run_key = jax.random.split(jax.random.key(5))
  assert given["key"] == run_key
  assert given["num_tasks"] == 6 and given["theta_average"] == 0.9
  assert given["balanced"] is True and given["limit"] == 0.7
  assert len(given["devices"]) == 2
  visits = given["visits"]
  assert visits.round == 2
  assert sorted(visits.at(0) + visits.at(1)) == [0, 1]
  starts = [(phase.start, phase.length) for phase in given["phases"]]
  assert starts == [(0, 3), (3, 47)]
  for phase, free in zip(given["phases"], ("memory", "step")):
    tree = parts.unravel(phase.free)
    for name, group in tree.items():
      assert all(np.all(x == (name == free)) for x in jax.tree.leaves(group))
  # Adam's steps on a constant gradient are the rate, here after its warm-up.
  optimizer = optax.with_extra_args_support(given["optimizer"])
  gradient, _ = ravel_pytree(jax.tree.map(jnp.ones_like, parts.theta))
  state, found = optimizer.init(gradient), []
  for _ in range(41):
    updates, state = optimizer.update(gradient, state)
    found.append(parts.unravel(-updates))
  for at, rate in ((0, 0.002), (4, 0.01), (40, 0.0005)):
    for name, group in found[at].items():
      by = 0.5 if name == "step" else 1.0
      for leaf in jax.tree.leaves(group):
        np.testing.assert_allclose(leaf, by * rate, rtol=1e-2)


@pytest.mark.parametrize("decay", [-1, 0, 40])
def test_the_meta_gradient_is_clipped_before_adam_sees_it(decay):
  config = MetaTrainConfig(outer_gradient_clip=2.0, outer_decay=decay)
  tx = optax.with_extra_args_support(outer_optimizer.make(config))

  def updates(*gradients):
    state = tx.init(jnp.zeros(2))
    for gradient in gradients:
      found, state = tx.update(
        jnp.array(gradient), state, length=jnp.float32(40)
      )
    return np.asarray(found)

  # Norms of 50 and 1: of the first one, 2 is left.
  found = updates([30.0, -40.0], [0.6, 0.8])
  np.testing.assert_allclose(found, updates([1.2, -1.6], [0.6, 0.8]), rtol=1e-4)
  assert not np.allclose(found, updates([0.6, -0.8], [0.6, 0.8]), rtol=0.1)
