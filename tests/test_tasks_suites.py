"""Suites: built by name, disjoint by data and by architecture."""

import pytest

import tasks
from tasks import registry, suites


@pytest.mark.parametrize("name", tasks.list_suites())
def test_every_suite_is_built_disjoint(name):
  suite = tasks.get_suite(name)
  assert suite.name == name
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
