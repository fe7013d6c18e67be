"""Sweeps change what they say and nothing else; costs; definitions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tasks
from meta_train.errors import UserError
from meta_train.evaluation import definition as definition_lib
from meta_train.evaluation import (
  evaluate,
  evaluation_plan,
  overhead,
  run_rows,
  sweeps,
)
from meta_train.evaluation.candidates import Candidate, Variant
from meta_train.evaluation.definition import definition
from tasks import registry
from tasks.fixed import FixedTask

TASK = registry.task("mlp_teacher_24_24_elu", "validation")
SGD = Candidate(
  "sgd",
  (Variant("sgd", "user"),),
  lambda hyper, num_steps: optax.sgd(0.1),
  jnp.zeros(1),
  "sgd",
)


def _settings(name):
  return {setting.value: setting for setting in sweeps.make_sweep(name)}


def _shapes(task):
  params, _ = jax.eval_shape(task.init_with_state, jax.random.key(0))
  return {x.shape for x in jax.tree.leaves(params)}


@pytest.mark.parametrize("name", sweeps.list_sweeps())
def test_one_setting_of_each_sweep_changes_nothing(name):
  unchanged = [
    setting
    for setting in sweeps.make_sweep(name)
    if setting.change(TASK) is TASK
    and (setting.steps, setting.told, setting.loss_scale) == (1, 1, 1)
  ]
  assert len(unchanged) == 1


def test_horizons_and_told_steps_are_as_stated():
  assert [s.steps for s in sweeps.make_sweep("horizon")] == [1, 5, 25]
  told = [s.told for s in sweeps.make_sweep("told_steps")]
  assert told == [0.1, 0.5, 1, 2, 10, 0]


def _told_plan():
  return evaluation_plan.Plan(
    tasks=[TASK],
    candidates=[SGD],
    baselines=[],
    settings=sweeps.make_sweep("told_steps"),
    num_steps=2,
    num_seeds=1,
    compute_baselines=False,
    options={"num_final_batches": 1},
  )


def test_withheld_steps_are_none_or_refused():
  told = []

  def factory(hyper, num_steps):
    told.append(num_steps)
    return optax.sgd(optax.cosine_decay_schedule(0.1, num_steps))

  def lazy(hyper, num_steps):  # What is wrong shows in its first update.
    return optax.sgd(lambda count: 0.1 * (1 - count / num_steps))

  needs = dataclasses.replace(SGD, name="needs", make_tx=factory)
  hides = dataclasses.replace(SGD, name="hides", make_tx=lazy)
  plan = _told_plan()._replace(candidates=[SGD, needs])
  made, problems = evaluation_plan.make_jobs(plan)
  assert told == [None]
  assert problems == ["needs has no told_steps to set to withheld."]
  _, problems = evaluation_plan.make_jobs(plan._replace(candidates=[hides]))
  assert problems == ["hides has no told_steps to set to withheld."]
  assert len(made) == 6 + 5
  seen = []

  def watched(hyper, num_steps):
    seen.append(num_steps)
    return optax.sgd(0.1)

  watching = dataclasses.replace(SGD, make_tx=watched)
  for told_steps, want in ((None, 20), (7, 7), (0, None)):
    evaluate.run_curves(
      TASK, watching, num_steps=20, seeds=range(1), told_steps=told_steps
    )
    assert set(seen) == {want}
    seen.clear()


def test_width_multiplies_hidden_layers():
  wide = _settings("width")["x8"].change(TASK)
  assert wide.name == TASK.name
  assert (8 * 24, 8 * 24) in _shapes(wide) and (24, 24) in _shapes(TASK)


def test_what_has_no_width_or_batch_is_said_so():
  quadratic = registry.task("softmax_wine", "validation")
  assert _settings("width")["x2"].change(quadratic) is None


def test_batches_grow():
  def size(task):
    batch = jax.eval_shape(task.sample_batch, jax.random.key(0))
    return jax.tree.leaves(batch)[0].shape[0]

  for value, factor in (("x0.25", 0.25), ("x4", 4)):
    changed = _settings("batch_size")[value].change(TASK)
    assert size(changed) == factor * size(TASK)


def test_a_changed_batch_leaves_seed_and_data_as_they_were():
  task = registry.task("mlp_teacher_24_24_elu", seed=3, data_dir="somewhere")
  changed = _settings("batch_size")["x2"].change(task)
  assert changed.family.data_dir == "somewhere"
  assert changed.family == dataclasses.replace(task.family, batch_size=128)
  assert (changed._seed, changed.name) == (3, task.name)


def test_an_optimizer_is_told_at_least_one_step():
  told = []
  counting = dataclasses.replace(
    SGD, make_tx=lambda hyper, steps: told.append(steps) or optax.sgd(0.1)
  )
  plan = _told_plan()._replace(candidates=[counting])
  made, _ = evaluation_plan.make_jobs(plan)
  told.clear()
  made[0].run(jax.local_devices()[:1])
  assert told and min(told) >= 1


def test_loss_is_scaled_and_said_by_how_much():
  key = jax.random.key(0)
  params = TASK.init(key)
  setting = _settings("loss_scale")["1e+03"]
  scaled = setting.change(TASK).loss(params, key, None)
  assert float(scaled) == pytest.approx(
    1e3 * float(TASK.loss(params, key, None)), rel=1e-5
  )
  assert setting.loss_scale == 1e3


def test_parameters_are_kept_in_bfloat16_and_the_loss_is_float32():
  key = jax.random.key(0)
  task = _settings("dtype")["bfloat16"].change(TASK)
  params = task.init(key)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
  loss, grads = jax.value_and_grad(task.loss)(params, key, None)
  assert loss.dtype == jnp.float32
  assert jax.tree.leaves(grads)[0].dtype == jnp.bfloat16
  plain = float(TASK.loss(TASK.init(key), key, None))
  assert float(loss) == pytest.approx(plain, rel=0.05)
  assert float(loss) != plain


def test_one_batch_in_a_hundred_is_an_outlier():
  """Of 10,000 draws, a share of 0.01 is found within 0.0045: 4.5 sigma."""
  task = registry.task("softmax_wine", "validation")
  changed = _settings("outliers")["x100"].change(task)
  params = task.init(jax.random.key(0))

  def both(key):
    found = [
      jax.value_and_grad(each.loss)(params, key, None)
      for each in (task, changed)
    ]
    (loss, plain), (other, gradient) = found
    ratios = jax.tree.map(jnp.vdot, gradient, plain)
    sizes = jax.tree.map(jnp.vdot, plain, plain)
    return loss, other, sum(ratios.values()) / sum(sizes.values())

  keys = jax.random.split(jax.random.key(1), 10_000)
  loss, other, ratio = jax.vmap(both)(keys)
  np.testing.assert_array_equal(loss, other)
  assert np.mean(ratio > 50) == pytest.approx(0.01, abs=0.0045)
  np.testing.assert_allclose(ratio, np.where(ratio > 50, 100.0, 1.0), rtol=1e-4)


def test_runs_too_short_for_outliers_are_told():
  some = _settings("outliers")["x100"]
  assert some.too_short(2000) == []
  (sentence,) = some.too_short(50)
  assert "0.5 wild batches on average" in sentence
  assert _settings("dtype")["bfloat16"].too_short(50) == []


def test_an_unknown_sweep_suggests_one():
  with pytest.raises(UserError, match="did you mean loss_scale"):
    sweeps.make_sweep("loss_scales")


def test_definitions_change_with_the_task():
  names = ("mlp_teacher_24_24_elu", "softmax_wine")
  made = [registry.task(name, "validation") for name in names]
  made += [registry.task(names[0], "held_out")]
  made += [registry.task(names[0], "validation", activation="tanh")]
  made += [registry.task(names[0], "validation", batch_size=7)]
  assert len({definition(task) for task in made}) == len(made)
  again = registry.task(names[0], "validation")
  assert definition(again) == definition(TASK)


def test_what_is_measured_belongs_to_the_definition():
  with_noise = "e89e626dc9c729d8"  # As it was measured once.
  task = registry.task("quadratic_24_noisy")
  assert definition(task) != with_noise
  family = dataclasses.replace(task.family)
  object.__setattr__(family, "measured_split", lambda split: split)
  assert definition(FixedTask(family, name=task.name)) == with_noise


def test_cost_counts_parameters_and_bytes_of_state():
  found = run_rows.cost(TASK, SGD, 10)
  sizes = [np.prod(shape) for shape in _shapes(TASK)]
  assert found["parameters"] >= sum(sizes) and found["state_bytes"] == 0
  adam = run_rows.cost(TASK, overhead.ADAM, 10)
  # Two moments of four bytes, and the counter.
  assert adam["state_bytes"] == 8 * adam["parameters"] + 4


def test_overhead_is_measured_beside_adam_and_kept(tmp_path):
  said = []

  def measure():
    return overhead.measure(
      [TASK], [overhead.ADAM, SGD], tmp_path / "o.jsonl",
      num_steps=10, on_job=said.append,
    )  # fmt: skip

  rows = measure()
  assert [row["optimizer"] for row in rows] == ["adam", "sgd"]
  for row in rows:
    assert 0 < row["step_s"] < 1 and 0 < row["adam_step_s"] < 1
  assert measure() == rows and len(said) == 2


def test_overhead_on_tasks_that_are_added_leaves_the_others(tmp_path):
  def measure(task, candidate):
    return overhead.measure(
      [task], [candidate], tmp_path / "o.jsonl", num_steps=10
    )

  before = measure(TASK, SGD)
  wine = registry.task("softmax_wine", "validation")
  other = dataclasses.replace(SGD, variants=(Variant("other", "user"),))
  rows = measure(wine, dataclasses.replace(other, name="other"))
  assert rows[:1] == before
  assert [(row["task"], row["optimizer"]) for row in rows] == [
    (TASK.name, "sgd"),
    ("softmax_wine", "other"),
  ]


def test_costs_are_of_tasks_from_small_to_large():
  small, middle, large = (
    registry.task(name, "validation")
    for name in ("griewank", "softmax_wine", "mlp_digits_64_64")
  )
  assert overhead.picked([large, small, middle], 2) == [middle, large]
  assert overhead.picked([large, small, middle], 9) == [small, middle, large]
  assert overhead.picked([large], 0) == []


def test_what_a_sweep_makes_is_defined_by_the_zoo_alone():
  task = tasks.get_suite("quick").held_out[0]
  for name in ("width", "batch_size", "dtype"):
    for setting in sweeps.make_sweep(name):
      assert definition_lib._sources(setting.change(task)) == []
