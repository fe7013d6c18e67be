"""What tasks may bring, through real unrolls and the real outer loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import flt_lopt
import tasks
from meta_train.engine.outer import OuterLoop
from meta_train.engine.unroll import Unroller
from meta_train.estimators import make_estimator
from tasks import augment, registry

LOPT = flt_lopt.LearnedOptimizer(
  flt_lopt.OptimizerConfig(hidden_units=2, controller_features=4)
)
THETA, UNRAVEL = ravel_pytree(LOPT.init(jax.random.key(0)))
# Those that change batches or carry a state; the others are slow tests.
_ALWAYS = ("batch_size", "delayed_gradient", "label_noise")


class Centred(tasks.Task):
  """Regression on inputs centred by their running mean, its model state."""

  def init_with_state(self, key):
    return {"w": jax.random.normal(key, (3,))}, {"mean": jnp.zeros(3)}

  def init(self, key):
    return self.init_with_state(key)[0]

  def loss_with_state(self, params, state, key, data):
    x = 2.0 + jax.random.normal(key, (8, 3))
    mean = 0.9 * state["mean"] + 0.1 * jnp.mean(x, axis=0)
    error = (x - mean) @ params["w"] - jnp.sum(x - 2.0, axis=1)
    return jnp.mean(jnp.square(error)), {"mean": mean}

  def loss_with_state_and_aux(self, params, state, key, data):
    return *self.loss_with_state(params, state, key, data), {}

  def loss(self, params, key, data):
    return self.loss_with_state(params, {"mean": jnp.zeros(3)}, key, data)[0]


def small(*augmentations):
  family = registry.family("softmax_iris")
  return augment.augment(family, *augmentations)


def unroller(family):
  return Unroller(
    family=family,
    lopt=LOPT,
    unravel=UNRAVEL,
    truncation=5,
    min_horizon=10,
    max_horizon=10,
    withhold=0.0,
    objective="mean",
  )


def by_hand(family, episode, theta, keys_of_unrolls):
  """Mean losses of unrolls of a plain loop, and its parameters."""
  task = family.task_fn(episode.cfg)
  tx = LOPT.transform(UNRAVEL(theta), num_steps=10)
  _, init_key, *_ = jax.random.split(jax.random.key(1), 4)
  params, model_state = task.init_with_state(init_key)
  state = tx.init(params)

  @jax.jit
  def step(params, model_state, state, key):
    (loss, model_state), gradient = jax.value_and_grad(
      task.loss_with_state, has_aux=True
    )(params, model_state, key, None)
    updates, state = tx.update(gradient, state, params, value=loss)
    return optax.apply_updates(params, updates), model_state, state, loss

  means = []
  for key in keys_of_unrolls:
    losses = []
    for step_key in jax.random.split(key, 5):
      params, model_state, state, loss = step(
        params, model_state, state, step_key
      )
      losses.append(float(task.normalizer(loss)))
    means.append(np.mean(losses))
  return means, params


@pytest.mark.parametrize(
  "name",
  [
    pytest.param(n, marks=() if n in _ALWAYS else pytest.mark.slow)
    for n in [*augment.AUGMENTATIONS, "model state"]
  ],
)
def test_unrolls_equal_a_plain_loop(name):
  """Late gradients and model states are handed from step to step."""
  if name == "model state":
    family = tasks.single_task_to_family(Centred())
  else:
    family = small(name)
  unroll = unroller(family)
  theta = THETA + 0.1 * jax.random.normal(jax.random.key(5), THETA.shape)
  episode, run = unroll.start(jax.random.key(1))
  keys = [jax.random.key(n) for n in range(2)]
  advance, losses = jax.jit(unroll.advance), []
  for key in keys:
    run, result = advance(theta, episode, run, key)
    losses.append(float(result.loss))
  want, params = by_hand(family, episode, theta, keys)
  np.testing.assert_allclose(losses, want, rtol=1e-3)
  assert not run.diverged
  got = unroll.layout.unflatten(run.params)
  for a, b in zip(got, jax.tree.leaves(params), strict=True):
    np.testing.assert_allclose(a, b, rtol=3e-3, atol=1e-4)


@pytest.mark.parametrize(
  "name",
  [
    "delayed_gradient",
    *(
      pytest.param(n, marks=pytest.mark.slow)
      for n in [*augment.AUGMENTATIONS, "model state"]
      if n != "delayed_gradient"
    ),
  ],
)
def test_the_outer_loop_takes_them(name):
  """Estimates are finite and not zero, and nothing compiles twice."""
  if name == "model state":
    family = tasks.single_task_to_family(Centred())
  else:
    family = small(name)
  estimator = make_estimator("pes", unroller(family), THETA.size, 0.01)
  loop = OuterLoop(
    (estimator,),
    optax.adam(1e-3),
    num_tasks=2,
    theta_average=0.9,
    key=jax.random.key(7),
    devices=jax.devices()[:2],
  )
  state = loop.init(THETA)
  for _ in range(4):  # Two episodes.
    state, metrics = loop.step(state)
    assert np.isfinite(metrics.meta_loss) and metrics.grad_norm > 0
    assert metrics.diverged_fraction == 0
  assert loop.compiled_programs() == 2
