"""Tasks with iterators on the host: numbered batches, pools, binding."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tasks
from tasks import augment, host_data, hosted

KEY = jax.random.key(0)


def counting(first=0):
  """Endless batches of two equal numbers: 0, 1, 2, ..."""
  return ({"x": np.full(2, i, np.float32)} for i in itertools.count(first))


def datasets():
  return types.SimpleNamespace(
    train=counting(),
    inner_valid=counting(1000),
    outer_valid=counting(2000),
    test=counting(3000),
    extra_info={"classes": 2},
  )


class Follow(tasks.Task):
  """The parameter follows the numbers of its batches."""

  def __init__(self):
    self.datasets = datasets()

  def init(self, key):
    return jnp.zeros(())

  def loss(self, params, key, data):
    return jnp.mean(jnp.square(params - data["x"]))


def test_batches_are_numbered_behind_a_pool_that_stays():
  numbered = host_data.NumberedDatasets(datasets())
  size = host_data.MAX_POOL
  first = numbered.read("train", 2, 3)["x"]
  np.testing.assert_array_equal(first[:, 0], size + np.array([2, 3, 4]))
  pool = numbered.pool("train")["x"]
  np.testing.assert_array_equal(pool[:, 1], np.arange(size))
  np.testing.assert_array_equal(numbered.read("train", 9, 1)["x"], size + 9)
  np.testing.assert_array_equal(numbered.pool("train")["x"], pool)
  np.testing.assert_array_equal(numbered.read("test", 0, 1)["x"], 3000 + size)
  assert numbered.extra_info == {"classes": 2}


def test_a_pool_of_large_batches_is_small(monkeypatch):
  monkeypatch.setattr(host_data, "POOL_BYTES", 8 * 20)
  assert len(host_data.NumberedDatasets(datasets()).pool("train")["x"]) == 20
  monkeypatch.setattr(host_data, "POOL_BYTES", 8)
  pool = host_data.NumberedDatasets(datasets()).pool("train")["x"]
  assert len(pool) == host_data.MIN_POOL


def test_reading_backwards_is_refused():
  numbered = host_data.NumberedDatasets(datasets())
  numbered.read("train", 5, 5)
  with pytest.raises(ValueError, match=r"Batch 9 .* read before, .*is at 10"):
    numbered.read("train", 9, 1)


@pytest.mark.parametrize(
  ("batches", "message"),
  [
    ([{"x": np.zeros(2)}] * 3, r"has ended.*itertools.cycle"),
    (
      itertools.cycle([{"x": np.zeros(2)}, {"x": np.zeros(3)}]),
      "differ in structure or shape",
    ),
    (
      itertools.cycle([{"x": np.zeros(2)}, {"y": np.zeros(2)}]),
      "differ in structure or shape",
    ),
    (itertools.cycle([{"x": np.array(["a"])}]), "not numbers"),
  ],
)
def test_unusable_iterators_are_explained(batches, message):
  numbered = host_data.NumberedDatasets(
    types.SimpleNamespace(train=iter(batches))
  )
  with pytest.raises(ValueError, match=message):
    numbered.pool("train")


def test_an_unknown_split_lists_the_splits():
  with pytest.raises(ValueError, match="inner_valid"):
    host_data.NumberedDatasets(datasets()).pool("valid")


def test_a_hosted_task_draws_from_its_pools():
  task = tasks.hosted_task(Follow())
  keys = jax.random.split(KEY, 200)
  draw = jax.jit(jax.vmap(lambda key: task.sample_batch(key)["x"][0]))
  drawn = np.asarray(draw(keys))
  assert drawn.min() >= 0
  assert drawn.max() < host_data.MAX_POOL
  assert len(np.unique(drawn)) > 100
  for split, offset in (("valid", 2000), ("test", 3000)):
    number = task.sample_batch(KEY, split)["x"][0] - offset
    assert 0 <= number < host_data.MAX_POOL
  value = jax.jit(lambda key: task.loss(jnp.zeros(()), key, None))(KEY)
  batch = task.sample_batch(KEY)["x"]
  assert value == np.mean(np.square(batch))
  given = {"x": jnp.full(2, 3.0)}
  assert task.loss(jnp.zeros(()), KEY, given) == 9.0


def test_hosting_is_done_once_and_only_where_needed():
  task = tasks.registry.task("quadratic_16")
  family = tasks.single_task_to_family(Follow())
  once = tasks.hosted_family(family)
  assert tasks.hosted_task(task) is task
  assert tasks.hosted_family(once) is once
  assert augment.augment(once, "scale_loss").datasets is once.datasets
  assert once.name == "Follow"


def test_bound_batches_pass_through_augmentations():
  """Members of an augmented family see what was bound, and change it."""
  family = tasks.single_task_to_family(Follow())
  halved = augment.EffectiveBatchSize((0.5, 0.5))
  family = augment.augment(family, "reparametrize_tensor", halved)
  cfgs = jax.vmap(family.sample)(jax.random.split(KEY, 3))
  batches = np.arange(6, dtype=np.float32).reshape(3, 1, 2)

  @jax.jit
  @jax.vmap
  def seen(cfg, batch):
    bound = hosted.bind(cfg, {"train": {"x": batch}})
    task = family.task_fn(bound)
    return task.sample_batch(KEY)["x"], task.loss(jnp.zeros(()), KEY, None)

  drawn, losses = seen(cfgs, batches)
  first = batches[:, 0, :1]
  np.testing.assert_array_equal(drawn, np.broadcast_to(first, (3, 2)))
  np.testing.assert_allclose(losses, first[:, 0] ** 2)
  valid = family.task_fn(family.sample(KEY)).sample_batch(KEY, "valid")["x"]
  assert valid[0] >= 2000
