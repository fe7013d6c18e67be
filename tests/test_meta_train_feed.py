"""Batches of the host in meta-training: which, for whom, and when resumed."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import flt_lopt
import tasks
from meta_train.engine.feed import Feed
from meta_train.engine.outer import OuterLoop
from meta_train.engine.unroll import Unroller
from meta_train.errors import UserError
from meta_train.estimators import ESTIMATORS, make_estimator
from tasks import host_data

LOPT = flt_lopt.LearnedOptimizer(
  flt_lopt.OptimizerConfig(hidden_units=2, controller_features=4)
)
THETA, UNRAVEL = ravel_pytree(LOPT.init(jax.random.key(0)))
NUM_TASKS, TRUNCATION, HORIZON = 2, 5, 10


class Numbered(tasks.Task):
  """Batches are numbers, and behind the pool they count from 0."""

  def __init__(self, stop=None):
    numbers = itertools.count(-host_data.MAX_POOL)
    if stop is not None:
      numbers = itertools.islice(numbers, host_data.MAX_POOL + stop)
    self.datasets = types.SimpleNamespace(
      train=({"x": np.full(3, number, np.float32)} for number in numbers)
    )

  def init(self, key):
    return {"w": jax.random.normal(key, (4,))}


class Shown(Numbered):
  """Its loss is the number of the batch, whatever the parameters are."""

  def loss(self, params, key, data):
    return jnp.mean(data["x"]) + 0 * jnp.sum(params["w"])


class Sought(Numbered):
  """Its parameters seek the sine of the number of the batch."""

  def loss(self, params, key, data):
    return jnp.mean(jnp.square(params["w"] - jnp.sin(data["x"][0])))


def outer_loop(task, name="pes"):
  family = tasks.hosted_family(tasks.single_task_to_family(task))
  unroller = Unroller(
    family=family,
    lopt=LOPT,
    unravel=UNRAVEL,
    truncation=TRUNCATION,
    min_horizon=HORIZON,
    max_horizon=HORIZON,
    withhold=0.0,
    objective="mean",
  )
  estimator = make_estimator(name, unroller, THETA.size, 0.01)
  return OuterLoop(
    (estimator,),
    optax.adam(1e-2),
    num_tasks=NUM_TASKS,
    theta_average=0.9,
    key=jax.random.key(7),
    devices=jax.devices()[:NUM_TASKS],
    feed=Feed([family], [estimator.fed_steps], num_tasks=NUM_TASKS),
  )


# One that is called for each unroll, and one for whole episodes, always.
@pytest.mark.parametrize(
  "name",
  [
    pytest.param(n, marks=() if n in ("pes", "full_grad") else pytest.mark.slow)
    for n in ESTIMATORS
  ],
)
def test_each_outer_step_sees_the_next_batches_and_both_halves_the_same(name):
  """The meta-loss is the mean number; were halves unlike, it had a slope."""
  loop = outer_loop(Shown(), name)
  state = loop.init(THETA)
  size = NUM_TASKS * (HORIZON if name.startswith("full") else TRUNCATION)
  for n in range(3):
    state, metrics = loop.step(state)
    expected = np.mean(np.arange(n * size, (n + 1) * size))
    np.testing.assert_allclose(metrics.meta_loss, expected, rtol=1e-5)
    assert metrics.grad_norm == 0.0
  assert loop.compiled_programs() == 2


def test_a_resumed_run_sees_what_it_would_have_seen():
  def run(state, loop, steps):
    for _ in range(steps):
      state, _ = loop.step(state)
    return jax.device_get(state)

  loop = outer_loop(Sought())
  straight = run(loop.init(THETA), loop, 5)
  loop = outer_loop(Sought())
  half = run(loop.init(THETA), loop, 2)
  assert np.any(half.theta != straight.theta)
  again = outer_loop(Sought())
  resumed = run(again.place(half), again, 3)
  jax.tree.map(np.testing.assert_array_equal, resumed, straight)


def test_processes_read_their_own_tasks():
  def feed(numbers=None):
    family = tasks.hosted_family(tasks.single_task_to_family(Shown()))
    return Feed([family], [TRUNCATION], num_tasks=4, numbers=numbers)

  everyone, second = feed(), feed(range(2, 4))
  for step in (0, 1, 5):
    taken = everyone.take(step, [0], [0])[0]["x"]
    assert taken.shape == (4, TRUNCATION, 3)
    np.testing.assert_array_equal(
      second.take(step, [0], [0])[0]["x"], taken[2:]
    )
  shapes = jax.tree.map(lambda x: (x.shape, x.dtype), second.shapes(0))
  assert shapes == {"x": ((2, TRUNCATION, 3), np.float32)}


def test_families_that_draw_their_own_are_not_fed():
  own = tasks.registry.family("quadratic_16")
  hosted = tasks.hosted_family(tasks.single_task_to_family(Shown()))
  feed = Feed([own, hosted], [1, 1], num_tasks=1)
  assert list(feed.take(0, [0, 1], [0])) == [1]
  assert feed.take(1, [0], [1]) == {}
  assert feed.shapes(0) is None


def test_an_iterator_that_ends_is_named():
  loop = outer_loop(Shown(stop=NUM_TASKS * TRUNCATION + 3))
  state, _ = loop.step(loop.init(THETA))
  with pytest.raises(UserError, match=r"datasets: .*'train'.*has ended"):
    loop.step(state)
