"""Wider problems: more parameters, and all else as it was."""

import jax
import numpy as np
import pytest

import tasks
from tasks import augment, cost, registry, suites

# Their data or functions give their sizes.
GIVEN = {
  "beale",
  "booth",
  "himmelblau",
  "linear_diabetes",
  "logistic_breast_cancer",
  "softmax_digits",
  "softmax_iris",
  "softmax_wine",
}


@pytest.mark.parametrize("name", registry.list_problems())
def test_every_problem_widens_or_says_why_not(name):
  task = registry.task(name)
  if name in GIVEN:
    with pytest.raises(ValueError, match=f"{name}.*cannot be widened"):
      tasks.scale_width(task, 8)
    return
  wide = tasks.scale_width(task, 8)
  assert wide.name == f"{name}_wide8"
  assert wide.data_ids == task.data_ids
  assert wide.architecture != task.architecture
  ratio = cost.num_parameters(wide) / cost.num_parameters(task)
  # From one side of a product growing to both sides of all.
  assert 4 < ratio <= 64

  def value(key):
    return wide.loss(wide.init(key), key, None)

  assert jax.eval_shape(value, jax.random.key(0)).shape == ()


def test_widths_multiply_and_seeds_stay():
  narrow = registry.task("mlp_digits_48", seed=3)
  wide = tasks.scale_width(narrow, 8)
  shapes = [x.shape for x in jax.tree.leaves(wide.init(jax.random.key(0)))]
  assert sorted(shapes) == [(10,), (64, 384), (384,), (384, 10)]
  key = jax.random.key(1)
  jax.tree.map(
    np.testing.assert_array_equal,
    narrow.sample_batch(key),
    wide.sample_batch(key),
  )
  assert tasks.scale_width(narrow, 1) is narrow


def test_augmented_families_widen():
  family = registry.family("mlp_digits_32")
  family = augment.augment(family, "reparametrize_tensor")
  wide = tasks.scale_width(family, 2)
  key = jax.random.key(0)
  params = jax.eval_shape(lambda key: wide.sample_task(key).init(key), key)
  assert (64, 64) in [x.shape for x in jax.tree.leaves(params)]


def test_wide_held_out_tasks_share_nothing_with_training():
  for name in ("quick", "all_small"):
    suite = tasks.get_suite(name)
    wide = tuple(
      tasks.scale_width(task, 8)
      for task in suite.held_out
      if task.family.widths
    )
    suites.check_disjoint(suite._replace(held_out=wide))


class Bowl(tasks.Task):
  """A task that does not say what is wide in it."""

  def init(self, key):
    return jax.numpy.zeros(2)

  def loss(self, params, key, data):
    return jax.numpy.sum(params**2)


@pytest.mark.parametrize("factor", [0, -2, 1.5])
def test_factors_are_whole_and_positive(factor):
  with pytest.raises(ValueError, match="whole number"):
    tasks.scale_width(registry.task("mlp_digits_48"), factor)


def test_a_task_that_does_not_say_is_refused():
  with pytest.raises(ValueError, match=r"'Bowl' cannot.*widened\(factor\)"):
    tasks.scale_width(Bowl(), 2)
