"""What every estimator owes the outer loop, by registry.

The task is a real one under the real learned optimizer: a parabola, of which
some members have a loss that isn't finite, from the start or from some step.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import slow_cases
from jax.flatten_util import ravel_pytree

import flt_lopt
import tasks
from meta_train.config import MetaTrainConfig
from meta_train.engine import training
from meta_train.engine.outer import OuterLoop
from meta_train.engine.unroll import Unroller
from meta_train.errors import UserError
from meta_train.estimators import ESTIMATORS, make_estimator

LOPT = flt_lopt.LearnedOptimizer(
  flt_lopt.OptimizerConfig(hidden_units=2, controller="off")
)
START, UNRAVEL = ravel_pytree(LOPT.init(jax.random.key(0)))
# Fast enough to get somewhere in an episode.
RATE = "['step']['log_rate']"
FAST, _ = ravel_pytree(
  jax.tree_util.tree_map_with_path(
    lambda path, x: x + 2.5 * (jax.tree_util.keystr(path) == RATE),
    UNRAVEL(START),
  )
)
THETA = FAST + 0.1 * jax.random.normal(jax.random.key(6), START.shape)
NAMES = list(ESTIMATORS)
# One that keeps noise over unrolls, one of whole episodes, one that
# differentiates; to compile the others takes long.
some_estimators = slow_cases.few_of(
  "name", NAMES, "pes", "full_es", "truncated_grad"
)
BACKPROPAGATION = ("truncated_grad", "full_grad")
WHOLE = ("full_es", "full_grad")
CEILING = 30.0


class Parabola(tasks.Task):
  """A parabola whose loss is not finite where it is below `floor`."""

  def __init__(self, floor):
    self._floor = floor

  def init(self, key):
    return {"x": 1.0 + 0.1 * jax.random.normal(key, (3,))}

  def loss(self, params, key, data):
    noise = 0.01 * jax.random.normal(key, (3,))
    loss = jnp.sum(jnp.square(params["x"] + noise))
    return jnp.where(loss < self._floor, jnp.inf, loss)

  def normalizer(self, loss):
    return jnp.minimum(jnp.where(jnp.isnan(loss), jnp.inf, loss), CEILING)


class Parabolas(tasks.TaskFamily):
  """Members of one floor each, drawn from `floors`."""

  def __init__(self, floors):
    self._floors = floors

  def sample(self, key):
    return jax.random.choice(key, jnp.asarray(self._floors))

  def task_fn(self, cfg):
    return Parabola(cfg)


def estimator_of(name, floors=(0.0,), **options) -> Any:
  unroller = Unroller(
    family=Parabolas(floors),
    lopt=LOPT,
    unravel=UNRAVEL,
    truncation=5,
    min_horizon=10,
    max_horizon=20,
    withhold=0.5,
    objective="mean",
  )
  if name == "nres":
    options = {"noise_period": 10, **options}
  return make_estimator(name, unroller, THETA.size, 0.02, **options)


def keys_of(seed, count=12):
  return jax.random.split(jax.random.key(seed), count)


@some_estimators
def test_states_stay_sound_beside_and_after_divergence(name):
  """Members that never diverge, that do at a loss of 2.5, and at once."""
  estimator = estimator_of(name, (0.0, 2.5, 100.0))
  assert estimator.copies == (1 if name in BACKPROPAGATION else 2)
  estimate = jax.jit(jax.vmap(estimator.estimate, (None, 0, 0)))
  state, last = jax.jit(jax.vmap(estimator.init))(keys_of(0)), None
  shapes = jax.tree.map(lambda x: (x.shape, x.dtype), state)
  seen = np.zeros(3, int)
  for n in range(12):  # Longer than an episode: resets happen too.
    after, found = estimate(THETA, state, keys_of(n))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == shapes
    for x in jax.tree.leaves((after, found)):
      assert np.all(np.isfinite(x))
    gradient, loss = np.asarray(found.gradient), np.asarray(found.loss)
    diverged = np.asarray(found.diverged)
    sound, lost = diverged == 0, np.isclose(loss, CEILING)
    assert gradient.shape == (12, THETA.size)
    # A lost member counts its ceiling, and has nothing to say.
    assert np.all(diverged[lost] == 1) and np.all(gradient[lost] == 0)
    assert np.all(loss <= CEILING * 1.0001) and np.all(loss[sound] < 10)
    assert np.all(np.any(gradient[sound] != 0, axis=-1))
    seen += [sound.sum(), lost.sum(), np.sum(~sound & ~lost)]
    if name not in WHOLE:
      # Once diverged, diverged to the horizon; then all is as new.
      fresh = np.asarray(state.episode.step) == 0
      runs = state.run if name == "truncated_grad" else state.runs
      assert not np.any(np.asarray(runs.diverged)[fresh])
      if last is not None:
        assert np.all(diverged[~fresh] >= last[~fresh])
    state, last = after, diverged
  assert np.all(seen > 0), seen
  # Pure, and a task alone is what it is among others.
  again = estimate(THETA, *jax.tree.map(lambda x: x[::-1], (state, keys_of(5))))
  once = estimate(THETA, state, keys_of(5))
  for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(once), strict=True):
    np.testing.assert_allclose(a[::-1], b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_more_pairs_are_more_copies_or_refused(name):
  if name in BACKPROPAGATION:
    with pytest.raises(UserError, match=f"num_pairs=3.*{name}.*leave it at 1"):
      estimator_of(name, num_pairs=3)
    return
  assert estimator_of(name, num_pairs=3).copies == 6
  with pytest.raises(ValueError, match=r"12 must be a multiple.*5; use 5"):
    estimator_of("nres", noise_period=12)


def outer_loop(estimator, optimizer, num_tasks=8):
  return OuterLoop(
    (estimator,),
    optimizer,
    num_tasks=num_tasks,
    theta_average=0.9,
    key=jax.random.key(7),
    devices=jax.devices()[:1],
  )


@some_estimators
def test_the_outer_loop_learns_a_tiny_task_and_compiles_once(name):
  options = {} if name in BACKPROPAGATION else {"num_pairs": 2}
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.05))
  loop = outer_loop(estimator_of(name, **options), optimizer)
  state = loop.init(START)
  losses: list[float] = []
  for _ in range(120):
    state, metrics = loop.step(state)
    losses.append(metrics.meta_loss)
    assert np.isfinite(metrics.grad_norm) and metrics.diverged_fraction == 0
  assert loop.compiled_programs() == 2
  assert np.all(np.isfinite(state.theta))
  assert np.mean(losses[-8:]) < 0.7 * np.mean(losses[:8])


@pytest.mark.parametrize(
  "settings, words",
  [
    (dict(noise_period=70), "noise_period=70 is not a multiple.*use 50"),
    (dict(noise_period=20), "noise_period=20 is not a multiple.*use 50"),
    (dict(num_pairs=0), "num_pairs=0 must be at least 1"),
    (dict(noise_period=-50), "noise_period=-50 must be at least 0"),
  ],
)
def test_settings_out_of_range_are_refused(settings, words):
  with pytest.raises(UserError, match=words):
    MetaTrainConfig(**settings)


def test_settings_reach_the_estimators():
  family = Parabolas((0.0,))
  base = dict(num_tasks=4, min_horizon=100, max_horizon=100, num_devices=1)

  def build(**settings):
    return training.build(MetaTrainConfig(**base, **settings), (family,))

  assert build().inner_steps == 4 * 50 * 2
  assert build(num_pairs=3).inner_steps == 4 * 50 * 6
  assert build(estimator="full_es").inner_steps == 4 * 100 * 2
  assert build(estimator="truncated_grad").inner_steps == 4 * 50
  assert build(estimator="nres", noise_period=100).inner_steps == 4 * 50 * 2
  with pytest.raises(UserError, match=r"noise_period=100 does.*leave it at 0"):
    build(noise_period=100)
  with pytest.raises(UserError, match=r"full_gard is unknown.*full_grad"):
    build(estimator="full_gard")
