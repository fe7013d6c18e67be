"""A user's own task, the table of tasks, and batches from the host."""

import itertools

import jax
import numpy as np
import pytest

import tasks
from tasks import host_data, listing, registry, suite_members, user

_MODULE = '''
import jax
import jax.numpy as jnp

class Bowl:
  """A task that derives from nothing of ours."""
  datasets = None
  def init(self, key):
    return jax.random.normal(key, (2,))
  def loss(self, params, key, data):
    return jnp.sum(params ** 2)

class Bowls:
  def sample(self, key):
    return jax.random.uniform(key)
  def task_fn(self, cfg):
    return Bowl()

def make():
  return Bowl()

bowl = Bowl()
number = 3
'''


@pytest.fixture
def module(tmp_path, monkeypatch, request):
  """A module of a name that no other test has imported."""
  name = f"own_{abs(hash(request.node.name))}"
  (tmp_path / f"{name}.py").write_text(_MODULE)
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  return name


@pytest.mark.parametrize("attribute", ["Bowl", "make", "bowl"])
def test_classes_functions_and_objects_are_found(module, attribute):
  task = tasks.load_user_task(f"{module}:{attribute}")
  params = np.array([3.0, 4.0])
  assert task.loss(params, None, None) == 25
  assert task.loss_with_state(params, None, None, None) == (25, None)
  assert task.sample_batch(jax.random.key(0), "valid") is None
  assert task.normalizer(3.0) == 3.0
  assert task.name == "Bowl"
  family = user.user_family(f"{module}:{attribute}")
  assert family.task_fn(family.sample(jax.random.key(0))).init(
    jax.random.key(0)
  ).shape == (2,)


def test_a_family_stays_a_family(module):
  family = user.user_family(f"{module}:Bowls")
  assert type(family).__name__ == "Bowls"


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("nothing", "my_module:MyTask"),
    ("{}:Bow", "Did you mean 'Bowl'"),
    ("{}:number", "without the methods"),
    ("no_such_module:Bowl", "neither installed nor in"),
  ],
)
def test_mistakes_are_explained(module, name, message):
  with pytest.raises(ValueError, match=message):
    tasks.load_user_task(name.format(module))


def test_rows_describe_problems_without_running_them():
  rows = tasks.list_tasks(["mlp_digits_48", "quadratic_16"])
  assert [row.name for row in rows] == ["mlp_digits_48", "quadratic_16"]
  mlp = rows[0]
  assert (mlp.family, mlp.data) == ("MLP", "digits")
  assert mlp.num_parameters == 3610
  assert mlp.steps_per_second is None
  assert mlp.summary.startswith("Classifies")


def test_steps_are_measured_on_request():
  task = registry.task("quadratic_16")
  assert listing.steps_per_second(task, num_steps=5) > 100


def test_every_problem_has_exactly_one_role():
  roles = (
    suite_members.TRAIN,
    suite_members.VALIDATION,
    suite_members.HELD_OUT,
    suite_members.HELD_OUT_LARGE,
  )
  names = [
    name
    for role in roles
    for name in itertools.chain.from_iterable(role.values())
  ]
  assert sorted(names) == sorted(registry.list_problems())
  assert len(set(names)) == len(names)


def test_our_batches_serve_as_host_iterators():
  task = registry.task("mlp_digits_48")
  first, again = (host_data.HostDatasets(task, seed=1) for _ in range(2))
  batch = next(first.train)
  jax.tree.map(np.testing.assert_array_equal, batch, next(again.train))
  assert not np.array_equal(batch["image"], next(first.train)["image"])
  assert first.abstract_batch["image"].shape == batch["image"].shape
  params = task.init(jax.random.key(0))
  valid = next(first.split("inner_valid"))
  assert np.isfinite(task.loss(params, jax.random.key(0), valid))
