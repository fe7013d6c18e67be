"""Our learned optimizer in the form of learned_optimization.

Runs where that package is installed, but for the message that it is not.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import peer
import pytest

import flt_lopt
from flt_lopt import interop

LOPT = flt_lopt.LearnedOptimizer(
  flt_lopt.OptimizerConfig(hidden_units=2, controller_features=4)
)


@pytest.fixture
def quadratics():
  return peer.load("tasks.quadratics")


def perturbed():
  theta = LOPT.init(peer.KEY)
  leaves, tree = jax.tree.flatten(theta)
  keys = jax.random.split(peer.KEY, len(leaves))
  leaves = [
    x + 0.1 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys)
  ]
  return jax.tree.unflatten(tree, leaves)


@pytest.mark.parametrize("num_steps", [10, None])
def test_it_follows_the_transformation(quadratics, num_steps):
  """Parameters, model state and loss go where they belong."""
  theta = perturbed()
  opt = interop.as_learned_optimization(LOPT).opt_fn(theta)
  tx = LOPT.transform(theta, num_steps=num_steps)
  params = {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.ones(4)}
  state = opt.init(params, model_state={"n": 0}, num_steps=num_steps)
  tx_state = tx.init(params)

  @jax.jit
  def step(state, params, tx_state, n):
    gradient = jax.tree.map(lambda p: p + jnp.sin(n + p), params)
    state = opt.update(
      state, gradient, 3.0 + n, model_state={"n": n}, key=peer.KEY
    )
    updates, tx_state = tx.update(gradient, tx_state, params, value=3.0 + n)
    return state, optax.apply_updates(params, updates), tx_state

  for n in range(10):
    state, params, tx_state = step(state, params, tx_state, n)
  jax.tree.map(np.testing.assert_array_equal, opt.get_params(state), params)
  assert opt.get_state(state) == {"n": 9}
  moved = opt.set_params(state, {"a": 0, "b": 1})
  assert opt.get_params(moved) == {"a": 0, "b": 1}


def test_their_estimator_meta_trains_it(quadratics):
  family = quadratics.FixedDimQuadraticFamily(5)
  lopt = interop.as_learned_optimization(LOPT)
  before, after, losses = peer.meta_train(family, lopt, outer_steps=3)
  assert np.isfinite(losses).all()
  assert jax.tree.structure(after) == jax.tree.structure(LOPT.init(peer.KEY))
  moved = [
    np.any(old != new)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after))
  ]
  assert np.mean(moved) > 0.5
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(after))


def test_shipped_weights_train_a_task_of_theirs(quadratics):
  evaluation = peer.load("eval_training")
  config, theta = flt_lopt.load(flt_lopt.list_pretrained()[0])
  lopt = interop.as_learned_optimization(flt_lopt.LearnedOptimizer(config))
  curves = evaluation.single_task_training_curves(
    quadratics.QuadraticTask(dim=5),
    lopt.opt_fn(theta),
    num_steps=300,
    key=peer.KEY,
    eval_every=300,
  )
  losses = np.asarray(curves["train/loss"])
  assert np.isfinite(losses).all() and losses[-1] < 0.5 * losses[0]


def test_without_the_package_the_error_says_so(monkeypatch):
  for name in (
    "learned_optimization",
    "learned_optimization.learned_optimizers",
  ):
    monkeypatch.setitem(sys.modules, name, None)
  interop._learned_class.cache_clear()
  with pytest.raises(ImportError, match="needs the package learned_optim"):
    interop.as_learned_optimization(LOPT)
