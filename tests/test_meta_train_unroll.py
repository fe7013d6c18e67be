"""Unrolls: the same as a plain loop with optax, and safe when they diverge."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import flt_lopt
import tasks
from meta_train.config import MetaTrainConfig
from meta_train.engine.outer import OuterLoop
from meta_train.engine.unroll import Unroller
from meta_train.estimators import make_estimator

LOPT = flt_lopt.LearnedOptimizer(
  flt_lopt.OptimizerConfig(hidden_units=2, controller_features=4)
)
THETA, UNRAVEL = ravel_pytree(LOPT.init(jax.random.key(0)))


class Parabola(tasks.Task):
  """A parabola that breaks where a parameter exceeds 4."""

  def init(self, key):
    return {"x": jax.random.normal(key, (3,)), "y": jnp.ones((2, 2))}

  def loss(self, params, key, data):
    noise = 0.1 * jax.random.normal(key)
    loss = sum(jnp.sum(jnp.square(p)) for p in params.values()) + noise
    return jnp.where(jnp.max(jnp.abs(params["x"])) > 4.0, jnp.nan, loss)

  def normalizer(self, loss):
    return jnp.minimum(jnp.where(jnp.isnan(loss), jnp.inf, loss), 50.0)


def unroller(truncation=10, task=None, **options):
  settings = dict(
    min_horizon=20, max_horizon=60, withhold=0.5, objective="mean"
  )
  return Unroller(
    family=tasks.single_task_to_family(task or Parabola()),
    lopt=LOPT,
    unravel=UNRAVEL,
    truncation=truncation,
    **(settings | options),
  )


def perturbed(scale=0.1):
  return THETA + scale * jax.random.normal(jax.random.key(5), THETA.shape)


def test_two_unrolls_equal_a_loop_with_optax():
  unroll = unroller(withhold=0.0)
  theta = perturbed()
  episode, run = unroll.start(jax.random.key(1))
  episode = episode._replace(sees_loss=jnp.ones([], bool))
  task, losses = Parabola(), []
  advance = jax.jit(unroll.advance)
  for n in range(2):
    run, result = advance(theta, episode, run, jax.random.key(n))
    losses.append(float(result.loss))

  tx = LOPT.transform(UNRAVEL(theta), num_steps=int(episode.num_steps))
  _, init_key, *_ = jax.random.split(jax.random.key(1), 4)
  params = task.init(init_key)
  state, want = tx.init(params), []

  @jax.jit
  def step(params, state, key):
    loss, grad = jax.value_and_grad(task.loss)(params, key, None)
    updates, state = tx.update(grad, state, params, value=loss)
    return optax.apply_updates(params, updates), state, loss

  for n in range(2):
    values = []
    for key in jax.random.split(jax.random.key(n), unroll.truncation):
      params, state, loss = step(params, state, key)
      values.append(float(loss))
    want.append(np.mean(values))
  np.testing.assert_allclose(losses, want, rtol=1e-4)
  got = unroll.layout.unflatten(run.params)
  for a, b in zip(got, jax.tree.leaves(params), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_divergence_is_absorbing_at_the_ceiling():
  unroll = unroller()
  episode, run = unroll.start(jax.random.key(1))
  run = run._replace(params=run.params.at[0, 0].set(9.0))
  advance = jax.jit(unroll.advance)
  before = np.asarray(run.params)
  for n in range(2):
    run, result = advance(THETA, episode, run, jax.random.key(n))
    assert result.loss == 50.0 and result.diverged
  np.testing.assert_array_equal(run.params, before)


def test_horizons_are_log_uniform_multiples_of_the_truncation():
  unroll = unroller(min_horizon=20, max_horizon=500)
  episodes = jax.vmap(lambda k: unroll.start(k)[0])(
    jax.random.split(jax.random.key(0), 4000)
  )
  lengths = np.asarray(episodes.length)
  assert np.all(lengths % 10 == 0) and lengths.min() >= 20
  assert lengths.max() <= 500
  # The median of a log-uniform law is the geometric mean of its ends.
  assert abs(np.median(lengths) - 100) <= 10
  told = np.asarray(episodes.num_steps)
  assert set(told[told > 0] == lengths[told > 0]) == {True}
  assert abs(np.mean(told == 0) - 0.5) < 0.04
  cut = jax.vmap(unroll.stagger)(
    jax.random.split(jax.random.key(1), 4000), episodes
  )
  assert np.all((cut.length >= 10) & (cut.length <= episodes.length))
  assert np.mean(cut.length < episodes.length) > 0.5


def outer_loop(num_devices):
  estimator = make_estimator("pes", unroller(), THETA.size, 0.01)
  return OuterLoop(
    (estimator,),
    optax.adam(MetaTrainConfig().outer_learning_rate),
    num_tasks=4,
    theta_average=0.9,
    key=jax.random.key(7),
    devices=jax.devices()[:num_devices],
  )


def test_outer_steps_agree_on_one_and_four_devices_and_compile_once():
  if len(jax.devices()) < 4:
    pytest.skip("needs 4 devices")
  results = []
  for count in (1, 4):
    loop = outer_loop(count)
    state = loop.init(THETA)
    losses = []
    for _ in range(8):  # Longer than an episode: resets happen too.
      state, metrics = loop.step(state)
      losses.append(metrics.meta_loss)
    assert loop.compiled_programs() == 2
    results.append((np.asarray(state.theta), np.asarray(state.average), losses))
  for one, four in zip(*results, strict=True):
    np.testing.assert_allclose(one, four, rtol=2e-3, atol=2e-4)
  theta, average, _ = results[0]
  assert np.any(theta != THETA) and np.any(average != theta)
