"""Tasks of a user's own: found, looked at, and refused in one line."""

import importlib
import linecache
import pathlib
import sys

import jax
import numpy as np
import pytest

from meta_train.config import MetaTrainConfig
from meta_train.errors import UserError
from meta_train.evaluation.definition import definition
from meta_train.evaluation.problems import (
  check_validation,
  choose_tasks,
  load_problems,
)

MODULE = "some_tasks_of_mine"
TEXT = """
import itertools
import types

import jax.numpy as jnp
import numpy as np

class MyTask:
  def init(self, key): return {'w': jnp.ones(3)}
  def loss(self, params, key, data): return jnp.mean(params['w'] ** 2)

class Vector(MyTask):
  def loss(self, params, key, data): return params['w'] ** 2

class Half(MyTask):
  def init(self, key): return {'w': jnp.ones(3, jnp.bfloat16)}

class Wrong(MyTask):
  def loss(self, params, key, data): return params['w'] @ jnp.ones(4)

class Pair(MyTask):
  def loss(self, params, key, data): return jnp.mean(params['w']), {}

class Nothing(MyTask):
  def loss(self, params, key, data): jnp.mean(params['w'])

class Numbers(MyTask):
  def init(self, key): return {'w': 1.0}
  def loss(self, params, key, data): return jnp.square(params['w'])

class TwoArguments(MyTask):
  def loss(self, params, key): return jnp.mean(params['w'])

class NaN(MyTask):
  def loss(self, params, key, data): return jnp.mean(params['w']) * jnp.nan

class Negative(MyTask):
  def loss(self, params, key, data): return jnp.mean(params['w'] ** 2) - 5.0

class Shifted(Negative):
  def normalizer(self, loss): return loss + 5.0

class Raises(MyTask):
  def __init__(self): int('abc')

class Generative(MyTask):
  def sample(self, params, key, num): return params['w'] * num

class Stateful(MyTask):
  def loss(self, params): return 0.0
  def init_with_state(self, key): return {'w': jnp.ones(3)}, {'n': jnp.ones(2)}
  def loss_with_state(self, params, model_state, key, data):
    return jnp.mean(params['w'] ** 2), model_state
  def loss_with_state_and_aux(self, params, model_state, key, data):
    return *self.loss_with_state(params, model_state, key, data), {}

class Ends(MyTask):
  datasets = types.SimpleNamespace(**{
    name: iter([np.ones(3, np.float32)] * 2)
    for name in ('train', 'inner_valid', 'outer_valid', 'test')
  })
  def loss(self, params, key, data): return jnp.mean((params['w'] - data) ** 2)
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
  (tmp_path / f"{MODULE}.py").write_text(TEXT)
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(sys, "path", list(sys.path))
  yield
  sys.modules.pop(MODULE, None)


def _config(name, **changes):
  return MetaTrainConfig(task=f"{MODULE}:{name}", **changes)


def test_an_own_task_is_trained_on_validated_on_and_evaluated_on():
  config = _config("MyTask", validate_every=5)
  problems = load_problems(config)
  check_validation(config, problems)
  sizes = (len(problems.train), len(problems.validation))
  assert (*sizes, len(problems.held_out)) == (1, 1, 1)
  params = problems.held_out[0].init(jax.random.key(0))
  np.testing.assert_array_equal(params["w"], np.ones(3))


@pytest.mark.parametrize(
  ("name", "words"),
  [
    ("MyTsk", "MyTask"),
    ("Foo", "Valid names: Ends, Generative, Half, MyTask, NaN, Negative"),
    ("Vector", "shape (3,)"),
    ("Half", "bfloat16"),
    ("Pair", "returns a tuple, but must return one float32 number"),
    ("Nothing", "returns a NoneType"),
    ("Numbers", "parameter ['w'] is a float, but must be an array"),
    (
      "TwoArguments",
      "a method loss that can't be called with (params, key, da",
    ),
    ("NaN", "its loss is nan at the parameters of init"),
    ("Negative", "begins at -4, and --objective=log counts all below 0 as 0"),
    ("Ends", "must be endless"),
  ],
)
def test_what_can_not_be_trained_on_is_one_line(name, words):
  with pytest.raises(UserError, match=f"^--task={MODULE}:{name}") as caught:
    load_problems(_config(name))
  assert words in str(caught.value)
  assert str(caught.value).count(f"{MODULE}:{name}") == 1


@pytest.mark.parametrize("name", [MODULE, "no_such_module_here:MyTask"])
def test_what_is_not_there_is_one_line(name):
  with pytest.raises(UserError, match=f"^--task={name}"):
    load_problems(MetaTrainConfig(task=name))


def test_negative_losses_are_no_matter_where_they_count():
  assert load_problems(_config("Negative", objective="mean"))
  assert load_problems(_config("Shifted"))


@pytest.mark.parametrize("name", ["Generative", "Stateful"])
def test_helpers_with_names_of_ours_take_what_they_like(name):
  assert load_problems(_config(name))


@pytest.mark.parametrize(
  ("name", "error", "words"),
  [
    ("Wrong", TypeError, "dot_general"),
    ("Raises", ValueError, "invalid literal for int"),
  ],
)
def test_a_mistake_in_the_own_code_keeps_its_traceback(name, error, words):
  with pytest.raises(error, match=words) as caught:
    load_problems(_config(name))
  assert not isinstance(caught.value, UserError)
  files = {pathlib.Path(str(entry.path)).stem for entry in caught.traceback}
  assert MODULE in files


def test_a_changed_task_is_another(tmp_path):
  (task,) = choose_tasks(f"{MODULE}:MyTask")
  before = definition(task)
  assert definition(task) == before
  path = tmp_path / f"{MODULE}.py"
  path.write_text(TEXT.replace("params['w'] ** 2)", "params['w'] ** 4)"))
  linecache.checkcache(str(path))
  sys.modules.pop(MODULE)
  importlib.invalidate_caches()
  (task,) = choose_tasks(f"{MODULE}:MyTask")
  assert definition(task) != before


def test_an_own_task_stands_where_a_suite_does_in_evaluations():
  (task,) = choose_tasks(f"{MODULE}:MyTask")
  assert task.name == "MyTask"
  assert choose_tasks(f"{MODULE}:MyTask", names="MyTask")
  with pytest.raises(UserError, match=r"MyTsk is no task of .*MyTask"):
    choose_tasks(f"{MODULE}:MyTask", names="MyTsk")
  with pytest.raises(UserError, match=r"^--evaluate_on=some.*NaN: its loss"):
    choose_tasks(f"{MODULE}:NaN", flags=("evaluate_on", "eval_tasks"))
