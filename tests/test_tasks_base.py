"""The interface of tasks: defaults, wrappers, and how data is chosen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tasks
from tasks import base


class Bowl(base.Task):
  """Sum of squares, scaled by the batch where there is one."""

  def init(self, key):
    return jax.random.normal(key, (3,))

  def loss(self, params, key, data):
    scale = 1.0 if base.is_empty(data) else data
    return scale * jnp.sum(params**2)


def test_defaults_follow_from_init_and_loss():
  task = Bowl()
  key = jax.random.key(0)
  params, state = task.init_with_state(key)
  loss = task.loss(params, key, None)
  assert state is None
  assert task.loss_with_state(params, None, key, None) == (loss, None)
  assert task.loss_and_aux(params, key, ()) == (loss, {})
  assert task.loss_with_state_and_aux(params, None, key, 1.0) == (
    loss,
    None,
    {},
  )
  assert task.normalizer(loss) == loss
  assert task.sample_batch(key, "valid") is None
  assert task.name == "Bowl"
  assert task.datasets is None


def test_an_unexpected_model_state_is_refused():
  with pytest.raises(ValueError, match="'Bowl' got a model state"):
    Bowl().loss_with_state(jnp.ones(3), {"mean": 0.0}, jax.random.key(0), ())


def test_an_unknown_split_is_refused():
  with pytest.raises(ValueError, match="train, valid, test"):
    Bowl().sample_batch(jax.random.key(0), "validation")


def test_single_task_family_vmaps_and_returns_the_task():
  task = Bowl()
  family = tasks.single_task_to_family(task)
  cfgs = jax.vmap(family.sample)(jax.random.split(jax.random.key(0), 4))
  assert jax.tree.leaves(cfgs)[0].shape == (4,)
  assert family.task_fn(cfgs) is task
  assert family.eval_task_fn(cfgs) is task
  assert family.sample_task(jax.random.key(1)) is task
  assert family.name == "Bowl"
  assert tasks.single_task_to_family(task, name="other").name == "other"


def test_without_data_the_loss_draws_a_training_batch_from_the_key():
  task = tasks.registry.task("mlp_digits_48")
  key = jax.random.key(0)
  params = task.init(key)
  own = task.loss(params, key, None)
  given = task.loss(params, key, task.sample_batch(key, "train"))
  valid = task.loss(params, key, task.sample_batch(key, "valid"))
  np.testing.assert_allclose(own, given, rtol=1e-6)
  assert own != valid
