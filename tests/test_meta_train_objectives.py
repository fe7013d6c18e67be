"""Meta-objectives: what counts, and that truncation does not change it."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from estimator_problems import Walk, estimates
from jax.flatten_util import ravel_pytree

import flt_lopt
import tasks
from meta_train.config import MetaTrainConfig
from meta_train.engine import training
from meta_train.engine.objectives import LOG_FLOOR, OBJECTIVES
from meta_train.engine.unroll import MAX_LOSS, Unroller
from meta_train.errors import UserError
from meta_train.estimators import make_estimator

LOPT = flt_lopt.LearnedOptimizer(
  flt_lopt.OptimizerConfig(hidden_units=2, controller="off")
)
THETA, UNRAVEL = ravel_pytree(LOPT.init(jax.random.key(0)))
WEIGHTED = [name for name, found in OBJECTIVES.items() if found.weight]
LENGTH = 20


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_smaller_loss_is_better_and_every_loss_counts_finitely(name):
  values = OBJECTIVES[name].value(jnp.float32([0.0, 0.1, 1.0, 9.0]))
  assert np.all(np.diff(values) > 0) and np.all(np.isfinite(values))


@pytest.mark.parametrize("name", WEIGHTED)
@pytest.mark.parametrize("length", [1, 7, 1000, 20_000])
def test_weights_are_one_on_average(name, length):
  weights = OBJECTIVES[name].weight(jnp.arange(length), jnp.int32(length))
  mean = np.mean(np.asarray(weights, np.float64))
  np.testing.assert_allclose(mean, 1, rtol=1e-4)


def test_weights_are_what_the_names_say():
  steps, length = jnp.arange(1023), jnp.int32(1023)
  last = np.asarray(OBJECTIVES["last"].weight(steps, length))
  assert last[-1] == 1023 and not np.any(last[:-1])
  tail = np.asarray(OBJECTIVES["log_tail"].weight(steps, length))
  assert np.all(tail[-102:] > 10) and not np.any(tail[:-102])
  by_time = np.asarray(OBJECTIVES["log_time"].weight(steps, length))
  edges = 2 ** np.arange(11) - 1
  octaves = [by_time[a:b].sum() for a, b in itertools.pairwise(edges)]
  np.testing.assert_allclose(octaves, 1023 / 10, rtol=1e-4)


class Bowl(tasks.Task):
  """A parabola without noise, that is worse by 3 on held-out data."""

  def init(self, key):
    return {"x": jnp.arange(1.0, 4.0)}

  def loss(self, params, key, data):
    del key
    found = jnp.mean(jnp.square(params["x"]))
    return found if data is None else found + data

  def sample_batch(self, key, split="train"):
    del key
    return jnp.float32({"train": 0.0, "valid": 3.0, "test": np.nan}[split])


def make_unroller(task, objective, truncation, length=LENGTH, **options):
  return Unroller(
    family=tasks.single_task_to_family(task),
    lopt=LOPT,
    unravel=UNRAVEL,
    truncation=truncation,
    min_horizon=length,
    max_horizon=length,
    withhold=0.0,
    objective=objective,
    **options,
  )


def losses_by_unroll(objective, truncation, **options):
  unroll = make_unroller(Bowl(), objective, truncation, **options)
  episode, run = unroll.start(jax.random.key(0))
  advance, found = jax.jit(unroll.advance), []
  for n in range(LENGTH // truncation):
    run, result = advance(THETA, episode, run, jax.random.key(n))
    episode = episode._replace(step=episode.step + truncation)
    found.append(float(result.loss))
  return np.array(found)


@pytest.fixture(scope="module")
def curve():
  """Training losses before each step, and after the last."""
  tx = LOPT.transform(UNRAVEL(THETA), num_steps=LENGTH)
  params = Bowl().init(jax.random.key(0))
  state, losses = tx.init(params), []
  step = jax.jit(tx.update)
  for _ in range(LENGTH):
    loss, gradient = jax.value_and_grad(Bowl().loss)(params, None, None)
    losses.append(float(loss))
    updates, state = step(gradient, state, params)
    params = jax.tree.map(jnp.add, params, updates)
  return np.array([*losses, float(Bowl().loss(params, None, None))])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_mean_over_unrolls_is_the_objective(name, curve):
  logged = name.startswith("log") and name != "log_time"
  plain = name.removeprefix("log_") if logged else name

  def value(losses):
    return np.log(losses + LOG_FLOOR) if logged else losses

  want = {
    "mean": np.mean(value(curve[:-1])),
    "log": np.mean(value(curve[:-1])),
    "last": value(curve[-2]),
    "tail": np.mean(value(curve[:-1][-max(LENGTH // 10, 1) :])),
    "log_time": np.mean(
      value(curve[:-1])
      * np.diff(np.log(np.arange(1, LENGTH + 2)))
      * LENGTH
      / np.log(LENGTH + 1)
    ),
    "validation": np.mean(value(curve[5::5] + 3)),
  }[plain]
  found = losses_by_unroll(name, 5)
  np.testing.assert_allclose(found.mean(), want, rtol=1e-4)
  if "last" in name:
    assert not np.any(found[:-1])
  if name in ("log_time", "last"):
    whole = losses_by_unroll(name, LENGTH)
    np.testing.assert_allclose(found.mean(), whole[0], rtol=1e-4)


class Broken(Bowl):
  """A parabola whose held-out loss is whatever one likes."""

  def __init__(self, held_out):
    self._held_out = held_out

  def sample_batch(self, key, split="train"):
    del key, split
    return jnp.float32(self._held_out)


@pytest.mark.parametrize("held_out", [np.nan, np.inf, -np.inf])
def test_a_held_out_loss_that_is_not_finite_is_the_worst(held_out):
  unroll = make_unroller(Broken(held_out), "validation", 2, length=2)
  episode, run = unroll.start(jax.random.key(0))
  _, result = jax.jit(unroll.advance)(THETA, episode, run, jax.random.key(1))
  assert result.loss == result.reported == MAX_LOSS


class Noise(tasks.Task):
  """A loss that is nothing but noise, of which a batch comes first."""

  def init(self, key):
    return {"x": jnp.zeros(3)}

  def loss(self, params, key, data):
    if data is None:  # As tasks of the zoo do.
      key = jax.random.fold_in(key, 1)
    return 5.0 + jax.random.normal(key) + 0.0 * jnp.sum(params["x"])

  def sample_batch(self, key, split="train"):
    return jnp.zeros(())


def test_the_held_out_loss_has_noise_of_its_own():
  steps, seen = 4, {}
  for objective in ("last", "validation"):
    unroll = make_unroller(Noise(), objective, steps, length=steps)
    episode, run = unroll.start(jax.random.key(0))
    advance = jax.jit(unroll.advance)
    # The unroll ends its episode at each of its steps in turn.
    seen[objective] = [
      float(
        advance(
          THETA, episode._replace(length=jnp.int32(n)), run, jax.random.key(1)
        )[1].reported
      )
      * (steps / n if objective == "last" else 1.0)
      for n in range(1, steps + 1)
    ]
  held_out, *rest = seen["validation"]
  assert rest == [held_out] * (steps - 1)
  assert np.min(np.abs(np.array(seen["last"]) - held_out)) > 1e-3


@pytest.mark.parametrize("objective", ["last", "log_time"])
@pytest.mark.parametrize("name, period", [("pes", 1), ("es_single", 3)])
def test_online_estimators_are_unbiased_for_weighted_losses(
  name, period, objective
):
  """Within four standard errors of 100,000 episodes."""
  problem, theta, sigma = Walk(objective=objective), jnp.array([-0.2, 0.1]), 0.3
  estimator = make_estimator(name, problem, 2, sigma)
  found, _ = estimates(estimator, theta, samples=100_000, calls=3)
  if objective == "last":
    assert not np.any(found.gradient[:, :-1])
  mean = np.asarray(found.gradient, np.float64).mean(axis=1)
  error = mean.std(axis=0) / np.sqrt(len(mean))
  want = problem.smoothed(theta, sigma, period)
  assert np.all(np.abs(mean.mean(axis=0) - want) < 4 * error)
  # The test has teeth: all steps alike would be another gradient.
  alike = Walk().smoothed(theta, sigma, period)
  assert np.max(np.abs(mean.mean(axis=0) - alike) / error) > 20


def test_an_unknown_objective_lists_the_known_ones():
  config = MetaTrainConfig(objective="log_tiem")
  with pytest.raises(UserError, match=r"did you mean log_time.*validation"):
    training.build(config, ())


def test_the_floor_of_the_logarithm_is_an_option(curve):
  found = losses_by_unroll("log", 5, log_floor=1e-3).mean()
  np.testing.assert_allclose(found, np.log(curve[:-1] + 1e-3).mean(), rtol=1e-4)
  plain = losses_by_unroll("mean", 5, log_floor=1e-3).mean()
  np.testing.assert_allclose(plain, curve[:-1].mean(), rtol=1e-4)
