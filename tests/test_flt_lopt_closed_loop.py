"""Untrained, an optimizer trains a real model as its reference does.

Both follow their own gradients from the same start on the same batches, so
that differences may grow; they stay far below the distance travelled.
"""

import functools

import jax
import numpy as np
import optax
import optimizer_variants as variants
import pytest
from jax.flatten_util import ravel_pytree
from optimizer_variants import few_variants

import flt_lopt
from tasks import registry

STEPS = 200
EVERY = 50


@functools.cache
def problem():
  """Returns (loss, initial parameters, keys of the steps)."""
  pytest.importorskip("sklearn")
  task = registry.task("mlp_digits_16_tanh")

  def loss(params, key):
    batch_key, loss_key = jax.random.split(key)
    return task.loss(params, loss_key, task.sample_batch(batch_key))

  keys = jax.random.split(jax.random.key(1), STEPS)
  return loss, jax.jit(task.init)(jax.random.key(0)), keys


def travel(tx):
  """Returns (losses, parameters at every 50th step) of a training run."""
  loss, params, keys = problem()

  @jax.jit
  def train(params):
    def step(carry, key):
      params, state = carry
      value, gradient = jax.value_and_grad(loss)(params, key)
      updates, state = tx.update(gradient, state, params)
      params = optax.apply_updates(params, updates)
      return (params, state), (value, ravel_pytree(params)[0])

    return jax.lax.scan(step, (params, tx.init(params)), keys)[1]

  losses, path = train(params)
  return np.asarray(losses), np.float64(path[EVERY - 1 :: EVERY])


@few_variants
def test_an_untrained_optimizer_follows_its_reference(name):
  config = variants.config(name, init_learning_rate=3e-3)
  lopt = flt_lopt.LearnedOptimizer(config)
  theta = lopt.init(jax.random.key(0))
  options = {"num_steps": STEPS, "weight_decay": 0.01}
  losses, path = travel(lopt.transform(theta, **options))
  want, reference = travel(lopt.reference(**options))
  assert want[-20:].mean() < 0.9 * want[:20].mean()  # It learns.
  start = np.float64(ravel_pytree(problem()[1])[0])
  for ours, theirs in zip(path, reference, strict=True):
    moved = np.linalg.norm(theirs - start)
    assert np.linalg.norm(ours - theirs) <= 1e-3 * moved
  np.testing.assert_allclose(losses, want, rtol=1e-2)
