"""Suites: built by name, disjoint by data and by architecture."""

import pytest

import tasks
from tasks import registry, suites


@pytest.mark.parametrize("name", tasks.list_suites())
def test_every_suite_is_built_disjoint(name):
  suite = tasks.get_suite(name)
  assert suite.name == name
  assert suite.validation or suite.held_out
  if not name.endswith("_small") and name != "held_out_large":
    assert suite.train
    assert suite.validation
    assert suite.held_out
  for group in (suite.train, suite.validation, suite.held_out):
    names = [problem.name for problem in group]
    assert len(set(names)) == len(names)


def test_shared_data_is_refused():
  suite = suites.Suite(
    "bad",
    train=(registry.family("mlp_digits_32"),),
    validation=(),
    held_out=(registry.task("mlp_digits_48", "meta_train"),),
  )
  with pytest.raises(ValueError, match=r"share the data.*another part"):
    suites.check_disjoint(suite)


def test_a_shared_architecture_is_refused():
  suite = suites.Suite(
    "bad",
    train=(registry.family("mlp_digits_32"),),
    validation=(),
    held_out=(registry.task("mlp_digits_32", "held_out", batch_size=8),),
  )
  with pytest.raises(ValueError, match="share the architectures"):
    suites.check_disjoint(suite)


def test_an_unknown_suite_lists_the_suites():
  with pytest.raises(ValueError, match=r"Did you mean 'quick'\?.*quick"):
    tasks.get_suite("quik")


def test_held_out_and_validation_are_large_enough():
  assert len(tasks.get_suite("held_out_small").held_out) >= 24
  assert len(tasks.get_suite("validation_small").validation) >= 8
  assert len(tasks.get_suite("mlp8").train) == 4


def test_what_is_trained_on_can_be_looked_at_task_by_task():
  looked_at = {
    task.name: task for task in tasks.get_suite("train_small").validation
  }
  families = {
    family.name: family for family in tasks.get_suite("all_small").train
  }
  assert looked_at.keys() == families.keys()
  for name, task in looked_at.items():
    assert task.data_ids == families[name].data_ids
    assert task.architecture == families[name].architecture


def test_training_families_can_be_augmented():
  plain, augmented = (
    tasks.get_suite("quick", augment=names)
    for names in ((), ("reparametrize_tensor", "scale_loss"))
  )
  assert len(augmented.train) == len(plain.train)
  family = augmented.train[0]
  assert family.name == plain.train[0].name
  assert family.family.family == plain.train[0]


def test_resized_and_encoded_data_count_as_the_same():
  small = registry.family("mlp_digits_32", data="digits@4")
  pairs = registry.family("transformer_topics_bpe")
  assert small.data_ids == registry.family("mlp_digits_32").data_ids
  assert pairs.data_ids == registry.family("transformer_topics").data_ids


def test_a_data_dir_replaces_the_sets_of_mlp8():
  suite = tasks.get_suite("mlp8", data_dir="somewhere")
  assert suite.train[0].data == "mnist@8"
  with pytest.raises(FileNotFoundError, match="somewhere"):
    suite.train[0].data_set  # noqa: B018
