"""What every registered problem must do; to register is to be tested."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tasks import registry

_NUM_STEPS = 200


@pytest.fixture(scope="module", params=registry.list_problems())
def family(request):
  begin = time.perf_counter()
  family = registry.family(request.param)
  assert time.perf_counter() - begin < 1.0, "building must not compute"
  return family


def _train(family, cfg, key, num_steps):
  """Losses of `num_steps` of Adam on one member."""
  task = family.task_fn(cfg)
  optimizer = optax.adam(3e-3)

  def step(carry, key):
    params, state = carry
    loss, grad = jax.value_and_grad(task.loss)(params, key, None)
    updates, state = optimizer.update(grad, state)
    return (optax.apply_updates(params, updates), state), loss

  params = task.init(key)
  _, losses = jax.lax.scan(
    step, (params, optimizer.init(params)), jax.random.split(key, num_steps)
  )
  return losses


def test_adam_makes_progress_on_every_member(family):
  """Two members at once under vmap: the loss falls and stays finite."""
  keys = jax.random.split(jax.random.key(0), 2)
  cfgs = jax.jit(jax.vmap(family.sample))(keys)
  train = jax.jit(
    jax.vmap(lambda cfg, key: _train(family, cfg, key, _NUM_STEPS))
  )
  losses = np.asarray(train(cfgs, keys))
  assert np.isfinite(losses).all()
  first, last = losses[:, :10].mean(), losses[:, -10:].mean()
  assert last < first - 0.05 * abs(first)


def test_deterministic_from_the_key_and_valid_in_bfloat16(family):
  task = family.task_fn(family.sample(jax.random.key(0)))
  key = jax.random.key(1)
  params = task.init(key)
  jax.tree.map(np.testing.assert_array_equal, params, task.init(key))
  loss = jax.jit(lambda p, k: task.loss(p, k, None))
  value = loss(params, key)
  assert value.shape == ()
  assert value.dtype == jnp.float32
  assert value == loss(params, key)
  half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
  np.testing.assert_allclose(loss(half, key), value, rtol=0.1, atol=0.05)
