"""The outer step: who is visited, what is frozen, what is skipped.

Estimators are made up here: their gradients are known, so theta is too.
"""

from typing import NamedTuple

import estimator_problems
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train.config import MetaTrainConfig
from meta_train.engine import meter, outer_optimizer, phases
from meta_train.engine import outer as outer_lib
from meta_train.engine.outer import OuterLoop
from meta_train.engine.visits import Visits
from meta_train.errors import UserError
from meta_train.estimators import (
  ESTIMATORS,
  Estimate,
  Estimator,
  make_estimator,
)

TREE = {
  "memory": {"a": np.zeros((2,), np.float32)},
  "direction": {"w": np.ones((3,), np.float32)},
  "controller": np.float32(0.5),
}
THETA, UNRAVEL = jax.flatten_util.ravel_pytree(TREE)
GROUPS = ("controller", "direction", "memory")


class State(NamedTuple):
  calls: jax.Array
  start: jax.Array


def known(target, *, bad_from=None, bad_until=None, noise=0.0):
  """An estimator of the gradient of |theta - target|**2 / 2."""

  def init(key, outer_step=0):
    del outer_step
    return State(jnp.zeros([], jnp.int32), jax.random.normal(key))

  def estimate(theta, state, key, outer_step=0, batches=None, free=1.0):
    gradient = theta - target
    gradient += noise * jax.random.normal(key, gradient.shape)
    if bad_from is not None:
      bad = (outer_step >= bad_from) & (outer_step < bad_until)
      gradient = jnp.where(bad, jnp.inf, gradient)
    loss = jnp.sum(jnp.square(theta - target)) / 2
    state = state._replace(calls=state.calls + 1)
    return state, Estimate(gradient, loss, jnp.zeros([]))

  return Estimator(init, estimate, copies=1, steps=1, fed_steps=0)


def make_loop(*estimators, num_tasks=4, average=0.0, rate=0.1, **options):
  return OuterLoop(
    estimators,
    options.pop("optimizer", optax.sgd(rate)),
    num_tasks=num_tasks,
    theta_average=average,
    key=jax.random.key(3),
    devices=jax.devices()[:2],
    **options,
  )


def take(loop, state, count):
  found = []
  for _ in range(count):
    state, metrics = loop.step(state)
    found.append(metrics)
  return state, found


def test_families_are_visited_equally_often_in_random_order():
  visits = Visits(7, per_step=3, seed=5)
  assert visits.round == 3
  rounds = [
    [visits.at(3 * number + turn) for turn in range(3)] for number in range(40)
  ]
  for each in rounds:
    assert sorted(n for step in each for n in step) == list(range(7))
    assert all(2 <= len(step) <= 3 for step in each)
  assert len({tuple(each) for each in rounds}) > 30
  # Any step can be asked for first, as after a resume.
  assert Visits(7, per_step=3, seed=5).at(50) == visits.at(50)
  assert Visits(7, per_step=3, seed=6).at(50) != visits.at(50)
  assert sorted(visits.first(3)) == list(range(7))
  assert visits.first(1, start=4) == list(visits.at(4))
  everything = Visits(3)
  assert [everything.at(n) for n in (0, 9)] == [(0, 1, 2)] * 2
  assert Visits(3, per_step=9).at(4) == (0, 1, 2)


def test_single_estimates_are_limited_and_counted():
  loop = make_loop(known(100.0), known(0.0), limit=0.5)
  state, (metrics,) = take(loop, loop.init(jnp.zeros(3)), 1)
  assert metrics.grad_limited == 0.5
  # Of two families, one far away and one at its target.
  assert metrics.grad_norm == pytest.approx(0.25, rel=1e-5)
  np.testing.assert_allclose(state.theta, 0.1 * 0.25 / 3**0.5, rtol=1e-5)


def test_only_visited_families_move_and_compile():
  loop = make_loop(
    *(known(float(n)) for n in range(4)), visits=Visits(4, per_step=2, seed=1)
  )
  state = loop.init(THETA)
  loop.compile(state, 1)
  calls = np.zeros(4, int)
  theta = np.asarray(THETA, np.float64)
  for step in range(6):
    state, metrics = loop.step(state)
    assert len(metrics.families) == len(metrics.family_losses) == 2
    calls[list(metrics.families)] += 1
    for family in range(4):
      tasks = np.asarray(state.tasks[family].calls)
      np.testing.assert_array_equal(tasks, np.full(4, calls[family]))
    losses = [np.sum((theta - n) ** 2) / 2 for n in metrics.families]
    np.testing.assert_allclose(metrics.family_losses, losses, rtol=1e-5)
    theta -= 0.1 * (theta - np.mean(metrics.families))
    np.testing.assert_allclose(state.theta, theta, rtol=1e-5, atol=1e-6)
    if step == 1:
      programs = loop.compiled_programs()
      assert programs == 4 + 1
  assert loop.compiled_programs() == programs
  np.testing.assert_array_equal(calls, 3)


@pytest.mark.parametrize("decay", [0.0, 0.75, 0.99])
def test_an_average_of_theta_is_the_result(decay):
  loop = make_loop(known(2.0), average=decay)
  state = loop.init(THETA)
  thetas = [np.asarray(THETA, np.float64)]
  for number in range(1, 6):
    state, _ = loop.step(state)
    thetas.append(thetas[-1] - 0.1 * (thetas[-1] - 2.0))
    # Where it began does not count, and the weights of the rest sum up to 1.
    weights = decay ** np.arange(number - 1, -1, -1.0)
    expected = np.average(thetas[1:], axis=0, weights=weights)
    np.testing.assert_allclose(state.average, expected, rtol=1e-5)
    if not decay:
      np.testing.assert_array_equal(state.average, state.theta)


def test_a_phase_averages_its_own_thetas_alone():
  parts = phases.parse("memory:4,controller", TREE)
  loop = make_loop(known(2.0), average=0.99, phases=parts)
  state, _ = take(loop, loop.init(THETA), 4)
  begin = UNRAVEL(np.asarray(state.average))
  state, _ = take(loop, state, 1)
  np.testing.assert_array_equal(state.average, state.theta)
  controller = 0.5 + 0.1 * 1.5
  assert UNRAVEL(state.average)["controller"] == pytest.approx(controller)
  np.testing.assert_array_equal(
    UNRAVEL(state.average)["memory"]["a"], begin["memory"]["a"]
  )
  # Four thetas from 0 to 2 at a tenth of the way each, of nearly equal weight.
  np.testing.assert_allclose(
    begin["memory"]["a"], 2 * (1 - np.mean(0.9 ** np.arange(1, 5))), rtol=1e-2
  )


def test_steps_that_are_not_finite_are_skipped_and_counted():
  loop = make_loop(
    known(3.0, bad_from=2, bad_until=4),
    known(3.0),
    optimizer=optax.adam(0.1),
    average=0.5,
  )
  state, _ = take(loop, loop.init(THETA), 2)
  before = jax.device_get((state.theta, state.average, state.optimizer))
  state, found = take(loop, state, 2)
  after = jax.device_get((state.theta, state.average, state.optimizer))
  jax.tree.map(np.testing.assert_array_equal, after, before)
  assert [m.skipped for m in found] == [True, True]
  assert int(state.outer_step) == 4 and int(state.skipped) == 2
  # The tasks went on, and so does theta afterwards.
  np.testing.assert_array_equal(state.tasks[0].calls, 4)
  state, (metrics,) = take(loop, state, 1)
  assert not metrics.skipped and int(state.skipped) == 0
  assert np.all(np.asarray(state.theta) != before[0])
  # Means of a row leave them out, and the row counts them.
  sums = meter.empty(2)
  for each in (*found, metrics):
    sums = meter.add(sums, each)
  row = meter.row(sums, ("a", "b"))
  assert row["skipped"] == 2
  assert row["grad_norm"] == pytest.approx(metrics.grad_norm)


def test_too_many_skipped_in_a_row_stop_the_run():
  loop = make_loop(known(1.0, bad_from=3, bad_until=10**6))
  state, _ = take(loop, loop.init(THETA), 3)
  state, _ = take(loop, state, outer_lib.MAX_SKIPPED - 1)
  with pytest.raises(UserError, match=r"not finite in 20 outer steps in a row"):
    loop.step(state)


def test_phases_freeze_groups_and_begin_anew_without_compiling():
  text = "memory+direction:4,controller:3,memory+controller"
  parts = phases.parse(text, TREE)
  assert [phase.start for phase in parts] == [0, 4, 7]
  loop = make_loop(
    known(3.0, noise=0.1),
    optimizer=optax.adam(0.1),
    average=0.5,
    phases=parts,
  )
  state = loop.init(THETA)
  first = np.asarray(state.tasks[0].start)
  programs = None
  frozen = [{"controller"}, {"memory", "direction"}, {"direction"}]
  starts = [first]
  for phase, steps in enumerate((4, 3, 3)):
    begin = UNRAVEL(np.asarray(state.average if phase else state.theta))
    state, _ = take(loop, state, 1)
    programs = programs or loop.compiled_programs()
    # A new phase: new episodes and a new optimizer, from the average.
    np.testing.assert_array_equal(state.tasks[0].calls, 1)
    counts = optax.tree.get_all_with_path(state.optimizer, "count")
    assert {int(count) for _, count in counts} == {1}
    starts.append(np.asarray(state.tasks[0].start))
    state, _ = take(loop, state, steps - 1)
    for what in (state.theta, state.average):
      now = UNRAVEL(np.asarray(what))
      for group in GROUPS:
        same = jax.tree.map(np.array_equal, now[group], begin[group])
        assert jax.tree.all(same) == (group in frozen[phase]), (phase, group)
  assert loop.compiled_programs() == programs
  assert np.array_equal(starts[0], starts[1])
  assert not np.any(starts[2] == starts[1]) and not np.any(
    starts[3] == starts[2]
  )


@pytest.mark.parametrize(
  "text, words",
  [
    ("memry:3,controller", "'memry', which.*did you mean memory.*direction"),
    ("memory,controller", "every phase but the last"),
    ("memory:0,controller", "every phase but the last"),
    ("memory:x,controller", "every phase but the last"),
    ("memory:3,controller:4", "goes on to the end; write controller$"),
    ("memory:5", "goes on to the end; write memory$"),
    ("memory:3,", "names ''"),
  ],
)
def test_malformed_phases_are_refused(text, words):
  with pytest.raises(UserError, match=words):
    phases.parse(text, TREE)


def test_without_phases_all_is_free():
  (phase,) = phases.parse("", TREE)
  assert phase.start == 0 and np.all(phase.free == 1.0)


@pytest.mark.parametrize("name", list(ESTIMATORS))
def test_no_estimator_perturbs_what_is_frozen(name):
  problem = estimator_problems.Slope()
  free = jnp.zeros(problem.num_theta).at[0].set(1.0)
  theta = jnp.ones(problem.num_theta)
  estimator = make_estimator(name, problem, problem.num_theta, 0.1)
  seen = []
  advance = problem.advance
  problem.advance = lambda theta, *rest, **options: (
    jax.debug.callback(lambda x: seen.append(np.asarray(x)), theta),
    advance(theta, *rest, **options),
  )[1]
  state = estimator.init(jax.random.key(0))
  _, estimate = estimator.estimate(
    theta, state, jax.random.key(1), 0, None, free
  )
  jax.effects_barrier()
  thetas = np.concatenate([np.atleast_2d(x) for x in seen])
  assert np.all(thetas[:, 1:] == 1.0)
  if name.endswith("_grad"):
    assert np.all(thetas == 1.0)
  else:
    assert np.all(thetas[:, 0] != 1.0)
  assert estimate.gradient[0] != 0.0 and np.all(estimate.gradient[1:] == 0.0)


def test_the_outer_rate_warms_up_and_falls():
  def rates(**settings):
    config = MetaTrainConfig(outer_learning_rate=0.5, **settings)
    tx = outer_optimizer.make(config)
    params = jnp.zeros(())
    state, found = tx.init(params), []
    for _ in range(60):  # Adam's steps on a constant gradient are the rate.
      updates, state = tx.update(jnp.ones(()), state, params)
      found.append(-float(updates))
    return np.array(found)

  np.testing.assert_allclose(rates(), 0.5, rtol=1e-3)
  warm = rates(outer_warmup=10)
  np.testing.assert_allclose(warm[:10], 0.5 * np.arange(1, 11) / 11, rtol=0.1)
  np.testing.assert_allclose(warm[11:], 0.5, rtol=1e-3)
  both = rates(outer_warmup=10, outer_decay=50)
  np.testing.assert_allclose(both[:10], warm[:10], rtol=1e-3)
  assert np.all(np.diff(both[11:50]) < 0)
  np.testing.assert_allclose(both[51:], 0.025, rtol=1e-2)
  with pytest.raises(UserError, match="outer_decay=5 must be later than"):
    MetaTrainConfig(outer_warmup=5, outer_decay=5)
