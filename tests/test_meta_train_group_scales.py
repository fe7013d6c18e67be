"""Factors by group: how they are written, and that they stay unbiased.

Statistical comparisons allow four standard errors of 100,000 episodes.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from estimator_problems import Walk, estimates

import tasks
from meta_train.config import MetaTrainConfig
from meta_train.engine import group_scales, outer_optimizer, phases, training
from meta_train.errors import UserError
from meta_train.estimators import make_estimator

THETA = {
  "memory": {"a": np.zeros(2)},
  "controller": np.zeros(3),
  "step": np.zeros(()),
}
WALK, SIGMA = jnp.array([-0.2, 0.1]), jnp.array([0.1, 0.3])


def test_groups_have_their_scales_and_the_others_one():
  found = group_scales.parse("sigma_scale", "memory:0.5, controller:2", THETA)
  # Flat theta has the groups in alphabetical order.
  np.testing.assert_allclose(found, [2, 2, 2, 0.5, 0.5, 1])
  assert group_scales.parse("sigma_scale", "", THETA) == 1.0


def test_the_narrowest_group_counts():
  theta = {"controller": {"log_step": {"b": np.zeros(1), "w": np.zeros(2)}}}
  theta |= {"controllers": np.zeros(1), "step": np.zeros(())}
  text = "controller:0,controller/log_step/b:3,step:0.5"
  found = group_scales.parse("sigma_scale", text, theta)
  np.testing.assert_allclose(found, [3, 0, 0, 1, 0.5])
  (phase,) = phases.parse("step+controller/log_step/w", theta)
  np.testing.assert_array_equal(phase.free, [0, 1, 1, 0, 1])
  with pytest.raises(UserError, match="did you mean controller/log_step/b"):
    group_scales.parse("rate_scale", "controller/log_stop/b:2", theta)


@pytest.mark.parametrize(
  "text, words",
  [
    ("memroy:2", "names 'memroy'.*did you mean memory.*controller, memory"),
    ("memory", "'' must be a number from 0 up, as in memory:0.3"),
    ("memory:-1", "'-1' must be a number from 0 up"),
    ("memory:inf", "'inf' must be a number"),
    ("memory:2,memory:3", "names memory twice"),
    ("memory:0,controller:0,step:0", "leaves nothing"),
  ],
)
def test_mistakes_are_refused(text, words):
  with pytest.raises(UserError, match=words):
    group_scales.parse("sigma_scale", text, THETA)


def per_episode(name, sigma, *, samples=100_000, free=None, **options):
  estimator = make_estimator(name, Walk(), 2, sigma, **options)
  if free is not None:
    plain = estimator.estimate
    estimator = estimator._replace(
      estimate=lambda *inputs: plain(*inputs, free=free)
    )
  calls = 1 if name == "full_es" else 3
  found, _ = estimates(estimator, WALK, samples=samples, calls=calls)
  return np.asarray(found.gradient, np.float64).mean(axis=1)


@pytest.mark.parametrize(
  "name, period, options",
  [
    ("pes", 1, {}),
    ("nres", 2, {"noise_period": 2}),
    ("es_single", 3, {}),
    ("full_es", 3, {"num_pairs": 2}),
  ],
)
def test_every_unbiased_estimator_stays_so(name, period, options):
  found = per_episode(name, SIGMA, **options)
  error = found.std(axis=0) / np.sqrt(len(found))
  want = Walk().smoothed(WALK, SIGMA, period)
  assert np.all(np.abs(found.mean(axis=0) - want) < 4 * error)
  # The test has teeth: it tells which of the two scales belongs to which.
  swapped = Walk().smoothed(WALK, SIGMA[::-1], period)
  assert np.max(np.abs(found.mean(axis=0) - swapped) / error) > 6


@pytest.mark.parametrize("name", ["pes", "full_es"])
@pytest.mark.parametrize("how", ["scale", "free"])
def test_what_is_not_perturbed_has_no_gradient_and_adds_no_noise(name, how):
  off = jnp.array([0.0, 1.0])
  if how == "scale":
    found = per_episode(name, 0.3 * off)
  else:
    found = per_episode(name, 0.3, free=off)
  assert not np.any(found[:, 0]) and np.all(np.isfinite(found))
  error = found[:, 1].std() / np.sqrt(len(found))
  want = Walk().smoothed(WALK, 0.3 * off, 1 if name == "pes" else 3)[1]
  assert abs(found[:, 1].mean() - want) < 4 * error


def test_the_flag_reaches_the_estimators(monkeypatch):
  given = []

  def make(name, unroller, num_theta, sigma, **options):
    given.append(sigma)
    return make_estimator(name, unroller, num_theta, sigma, **options)

  monkeypatch.setattr(training, "make_estimator", make)
  family = tasks.single_task_to_family(object())
  config = MetaTrainConfig(sigma_scale="step:3", num_devices=1)
  parts = training.build(config, (family,))
  by_group = parts.unravel(jnp.asarray(given[0]))
  for name, group in by_group.items():
    for leaf in jax.tree.leaves(group):
      np.testing.assert_allclose(leaf, 0.03 if name == "step" else 0.01)
  config = MetaTrainConfig(sigma_scale="stepp:3", num_devices=1)
  with pytest.raises(UserError, match="did you mean step"):
    training.build(config, (family,))


@pytest.mark.parametrize(
  "changes, words",
  [
    (
      {"estimator": "truncated_grad", "sigma_scale": "step:2"},
      "step:2 does nothing for --estimator=truncated_grad",
    ),
    (
      {"phases": "memory:3,controller+step", "sigma_scale": "step:0"},
      "lets step learn, which --sigma_scale or --rate_scale",
    ),
    ({"phases": "memory:3,step", "rate_scale": "step:0"}, "lets step learn"),
    (
      {
        "sigma_scale": "memory:0,step:0",
        "rate_scale": "direction:0,controller:0",
      },
      "leave nothing that learns",
    ),
  ],
)
def test_settings_that_do_nothing_are_refused(changes, words):
  config = MetaTrainConfig(num_devices=1, **changes)
  family = tasks.single_task_to_family(object())
  with pytest.raises(UserError, match=words):
    training.build(config, (family,))


def test_what_a_run_is_too_short_for_is_told():
  config = MetaTrainConfig(
    phases="memory:300,step", outer_steps=300, expert="muon"
  )
  stretches = phases.parse(config.phases, THETA, outer_steps=300)
  late, faded = training.cautions(config, stretches)
  assert "begins at outer step 300, and --outer_steps=300" in late
  assert "--expert_fade=1000 is longer than --outer_steps=300" in faded
  enough = dataclasses.replace(config, outer_steps=1000)
  assert training.cautions(enough, stretches) == []


def test_schedules_that_are_longer_than_the_run_are_told():
  config = MetaTrainConfig(
    outer_steps=200, horizon_curriculum=500, outer_decay=400, outer_warmup=300
  )
  found = training.cautions(config, phases.parse("", THETA, outer_steps=200))
  assert [
    text.partition(" is longer than --outer_steps=200")[0] for text in found
  ] == [
    "--horizon_curriculum=500",
    "--outer_warmup=300",
    "--outer_decay=400",
  ]
  enough = dataclasses.replace(config, outer_steps=500)
  whole = phases.parse("", THETA, outer_steps=500)
  assert training.cautions(enough, whole) == []
  # A rate begins anew in each phase, and the last one has 300 outer steps.
  halves = phases.parse("memory:200,step", THETA, outer_steps=500)
  (decay,) = training.cautions(enough, halves)
  assert "--outer_decay=400 is longer than every phase of" in decay
  # A decay over the phase, and no outer steps, want no word.
  for changes in ({"outer_decay": -1, "outer_warmup": 0}, {"outer_steps": 0}):
    other = dataclasses.replace(config, horizon_curriculum=0, **changes)
    assert training.cautions(other, whole) == []


def test_what_a_longer_run_does_to_the_rate_is_told():
  *_, last = phases.parse("memory:3,step", THETA, outer_steps=10)
  config = MetaTrainConfig(outer_steps=10, outer_decay=-1)

  def told(config, done, former):
    return outer_optimizer.on_continuing(
      config, last, done=done, former_steps=former
    )

  assert "was 5 and is 10: the outer rate jumps up" in told(config, 5, 5)
  assert "was 20 and is 10: the outer rate jumps down" in told(config, 5, 20)
  # The same length, a phase before the last one, a decay of its own.
  assert told(config, 5, 10) == told(config, last.start, 5) == ""
  fixed = dataclasses.replace(config, outer_decay=7)
  assert told(fixed, 7, 7) == ""
  assert "jumps up" in outer_optimizer.on_going_on(config, last)
  at_end = outer_optimizer.on_going_on(fixed, last)
  assert at_end == "at 5 % of the outer rate, by --outer_decay=7"
  for decay in (0, 8):
    other = dataclasses.replace(config, outer_decay=decay)
    assert outer_optimizer.on_going_on(other, last) == ""


def test_each_phase_may_have_a_decay_as_long_as_itself():
  lengths = (10, 30)
  for length in lengths:
    config = MetaTrainConfig(outer_warmup=3, outer_decay=length)
    fixed = outer_optimizer.make(config)
    own = outer_optimizer.make(dataclasses.replace(config, outer_decay=-1))
    states = fixed.init(jnp.ones(2)), own.init(jnp.ones(2))
    for step in range(length + 2):
      gradient = jnp.array([1.0, -0.5 * step])
      want, first = fixed.update(gradient, states[0])
      found, second = own.update(
        gradient, states[1], length=jnp.float32(length)
      )
      np.testing.assert_allclose(found, want, rtol=1e-5)
      states = first, second
  text = "memory:10,step"
  found = phases.parse(text, THETA, outer_steps=40)
  assert tuple(phase.length for phase in found) == lengths


def test_outer_rates_are_those_of_their_groups():
  scale = group_scales.parse("rate_scale", "memory:0.5,controller:0", THETA)
  config = MetaTrainConfig(outer_learning_rate=0.1, outer_gradient_clip=10.0)
  tx = outer_optimizer.make(config, scale)
  gradient = jnp.array([1.0, -1.0, 2.0, 0.5, 1.0, -2.0])
  found, _ = tx.update(gradient, tx.init(gradient))
  # Adam's first step is the rate, whatever the size of the gradient.
  np.testing.assert_allclose(found, [0, 0, 0, -0.05, -0.05, 0.1], rtol=1e-4)
