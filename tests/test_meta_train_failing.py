"""The buffer of failing states: what is kept, and how episodes begin in it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from estimator_problems import Walk, estimates
from jax.flatten_util import ravel_pytree

import flt_lopt
import tasks
from meta_train.config import MetaTrainConfig
from meta_train.engine.unroll import RISE, Episode, Run, Unroller
from meta_train.errors import UserError
from meta_train.estimators import make_estimator
from meta_train.estimators.failing import FailingStates

THETA, SIGMA = jnp.array([-0.2, 0.1]), 0.3
LOPT = flt_lopt.LearnedOptimizer(
  flt_lopt.OptimizerConfig(hidden_units=2, controller="off")
)
START, UNRAVEL = ravel_pytree(LOPT.init(jax.random.key(0)))


class Fragile(Walk):
  """A walk in whose second unroll the copies of lower theta_0 fail."""

  def advance(self, theta, episode, run, key, batches=None, **options):
    run, result = super().advance(theta, episode, run, key, batches, **options)
    failed = (episode.step == 1) & (theta[0] < THETA[0])
    return run, result._replace(failed=failed)


def fragile(name="pes", *, samples=200, calls=5, share=1.0, **options):
  """Gradients and states of five calls: an episode of 3, then one of 2."""
  estimator = make_estimator(
    name, Fragile(), 2, SIGMA, failing_states=2, failing_share=share, **options
  )
  return estimates(estimator, THETA, samples=samples, calls=calls)


@pytest.mark.parametrize("name", ["pes", "nres", "es_single", "truncated_es"])
def test_a_state_is_kept_and_an_episode_begins_in_it_as_new(name):
  _, state = fragile(name, num_pairs=2)
  x = np.asarray(state.runs.params)  # [samples, calls, copies]
  kept = np.asarray(state.failing.runs.params)
  np.testing.assert_array_equal(state.failing.count[:, :2], [[0, 1]] * 200)
  # It is where one of the copies stood before the second unroll.
  assert np.all(np.any(kept[:, 1, :1] == x[:, 0], axis=1))
  assert np.all(state.failing.episodes.step[:, 1, 0] == 1)
  # The episode of 3 unrolls is over, and what begins is the kept one's rest.
  np.testing.assert_array_equal(
    x[:, 2], np.repeat(kept[:, 2, :1], x.shape[2], axis=1)
  )
  np.testing.assert_array_equal(state.episode.step[:, 2], 0)
  np.testing.assert_array_equal(state.episode.length[:, 2], 2)
  for memory in state.memory:
    assert not np.any(memory[:, 2]) and np.all(memory[:, 3] != 0)
  # It fails in its own second unroll, and makes the buffer's second entry.
  np.testing.assert_array_equal(state.failing.count[:, 3:], [[1, 2]] * 200)
  # Halves go apart from the same place.
  assert np.all(x[:, 3, :2] != x[:, 3, 2:])


class Rest(Walk):
  """What a resumed episode is: the walk from where its first step has led."""

  def mean_loss(self, thetas, truncated=False):
    x = jnp.asarray(self.start_x, jnp.float32)
    x = jax.lax.stop_gradient(self.move(x, thetas[0], None))
    total = 0.0
    for theta in thetas[1:]:
      x = self.move(x, theta, None)
      total += self.loss(x, theta, None)
    return total / (len(thetas) - 1)


class Early(Fragile):
  """As `Fragile`, but the copy that comes first fails, whatever its theta."""

  def advance(self, theta, episode, run, key, batches=None, **options):
    run, result = super().advance(theta, episode, run, key, batches, **options)
    return run, result._replace(failed=episode.step == 1)


def test_resumed_episodes_have_the_gradient_of_their_rest():
  """Within four standard errors of 100,000 episodes."""
  estimator = make_estimator(
    "pes", Early(), 2, SIGMA, failing_states=1, failing_share=1.0
  )
  found, _ = estimates(estimator, THETA, samples=100_000, calls=5)
  first = np.asarray(found.gradient[:, :3], np.float64).mean(axis=1)
  rest = np.asarray(found.gradient[:, 3:], np.float64).mean(axis=1)
  for values, problem in ((first, Walk()), (rest, Rest())):
    error = values.std(axis=0) / np.sqrt(len(values))
    want = problem.smoothed(THETA, SIGMA, 1)
    assert np.all(np.abs(values.mean(axis=0) - want) < 4 * error)
  # The test has teeth: they are different gradients.
  other = Walk().smoothed(THETA, SIGMA, 1)
  assert np.max(np.abs(rest.mean(axis=0) - other) / error) > 20


def test_a_share_of_the_episodes_resumes_and_none_before_a_failure():
  _, state = fragile(samples=4000, calls=3, share=0.3)
  resumed = np.mean(np.asarray(state.episode.length[:, 2]) == 2)
  assert abs(resumed - 0.3) < 4 * np.sqrt(0.3 * 0.7 / 4000)
  plain = make_estimator(
    "pes", Walk(), 2, SIGMA, failing_states=2, failing_share=1.0
  )
  _, state = estimates(plain, THETA, samples=50, calls=6)
  assert np.all(state.episode.length == 3) and not np.any(state.failing.count)


class Drawn(Walk):
  """A walk that always fails, and begins at what its key's first child says."""

  def start(self, key, outer_step=0):
    episode, run = super().start(key, outer_step)
    init_key = jax.random.split(key, 4)[1]  # Of the real unroller's four.
    child = jax.random.split(init_key)[0]
    return episode, run._replace(params=jax.random.uniform(child))

  def advance(self, theta, episode, run, key, batches=None, **options):
    run, result = super().advance(theta, episode, run, key, batches, **options)
    return run, result._replace(failed=jnp.ones([], bool))


@pytest.mark.parametrize("name", ["pes", "truncated_grad"])
def test_what_begins_afresh_does_not_depend_on_being_chosen(name):
  """Within four standard errors of about 2,000 fresh episodes."""
  estimator = make_estimator(
    *(name, Drawn(), 2, SIGMA), failing_states=1, failing_share=0.5
  )
  _, state = estimates(estimator, THETA, samples=4000, calls=3)
  runs = state.run if name == "truncated_grad" else state.runs
  fresh = np.asarray(state.episode.length[:, 2]) == 3
  x = np.asarray(runs.params)[fresh, 2].reshape(np.sum(fresh), -1)[:, 0]
  assert abs(np.mean(fresh) - 0.5) < 4 * 0.5 / np.sqrt(4000)
  assert abs(np.mean(x) - 0.5) < 4 * np.sqrt(1 / 12 / len(x))


def test_the_oldest_makes_room():
  buffer = FailingStates(slots=2, share=1.0)
  zero = jnp.zeros([], jnp.int32)
  run = Run(jnp.zeros(1), None, (), jnp.zeros([], bool))
  kept = buffer.init(Episode((), zero + 9, zero, zero, zero), run)
  for n in range(5):
    runs = Run(n + jnp.zeros((2, 1)), None, (), jnp.zeros(2, bool))
    failed = jnp.array([False, n != 3])
    kept = buffer.keep(
      kept, Episode((), zero + 9, zero, zero + n, zero), runs, failed
    )
  assert kept.count == 4
  np.testing.assert_array_equal(kept.episodes.step, [2, 4])
  np.testing.assert_array_equal(kept.runs.params, [[2], [4]])


class Trap(tasks.Task):
  """Flat, and from its 15th step on uphill or not finite; noise-free."""

  def __init__(self, kind):
    self._kind = kind

  def init_with_state(self, key):
    return {"x": jnp.ones(3)}, jnp.zeros([], jnp.int32)

  def init(self, key):
    return self.init_with_state(key)[0]

  def loss_with_state(self, params, state, key, data):
    base = 2.0 + 0.0 * jnp.sum(params["x"])
    late = jnp.stack(
      [base, base * (1 + 0.9 * RISE), base * (1 + 1.1 * RISE), base * jnp.nan]
    )[self._kind]
    return jnp.where(state >= 15, late, base), state + 1

  def loss(self, params, key, data):
    return self.loss_with_state(params, jnp.int32(0), key, data)[0]

  def normalizer(self, loss):
    return jnp.minimum(jnp.where(jnp.isnan(loss), jnp.inf, loss), 30.0)


class Traps(tasks.TaskFamily):
  def sample(self, key):
    return jax.random.randint(key, (), 0, 4)

  def task_fn(self, cfg):
    return Trap(cfg)


def traps():
  return Unroller(
    family=Traps(),
    lopt=LOPT,
    unravel=UNRAVEL,
    truncation=10,
    min_horizon=20,
    max_horizon=40,
    withhold=0.0,
    objective="log",
  )


def test_rising_and_diverging_are_failures_and_little_else():
  unroll = traps()
  episode, run = jax.vmap(unroll.start)(jax.random.split(jax.random.key(0), 4))
  episode = episode._replace(cfg=jnp.arange(4))
  advance = jax.jit(jax.vmap(unroll.advance, (None, 0, 0, None)))
  # A run that stays bad, or stays diverged, does not fail again.
  for n, failed in enumerate([[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]):
    run, result = advance(START, episode, run, jax.random.key(n))
    np.testing.assert_array_equal(result.failed, failed)
  assert result.diverged[3]


def test_a_state_that_is_not_finite_is_not_kept():
  buffer = FailingStates(slots=1, share=1.0)
  episode = jnp.zeros(())
  runs = Run(
    params=jnp.array([[1.0, jnp.inf], [2.0, 3.0]]),
    model_state=(),
    optimizer=(),
    diverged=jnp.zeros(2, bool),
  )
  first = jax.tree.map(lambda x: x[1], runs)
  empty = buffer.init(episode, first)
  kept = buffer.keep(empty, episode, runs, jnp.array([True, False]))
  assert kept.count == 0
  kept = buffer.keep(empty, episode, runs, jnp.array([True, True]))
  assert kept.count == 1
  np.testing.assert_array_equal(kept.runs.params, [[2.0, 3.0]])


def test_real_runs_resume_before_they_diverge():
  unroll, slots = traps(), 3
  estimator = make_estimator(
    "pes", unroll, START.size, 0.01, failing_states=slots, failing_share=0.5
  )
  state = jax.jit(jax.vmap(estimator.init))(
    jax.random.split(jax.random.key(0), 6)
  )
  estimate = jax.jit(jax.vmap(estimator.estimate, (None, 0, 0)))
  resumed = 0
  for n in range(10):
    keys = jax.random.split(jax.random.key(n), 6)
    state, found = estimate(START, state, keys)
    assert np.all(np.isfinite(found.gradient))
    runs = state.runs
    assert not np.any(state.failing.runs.diverged)
    fresh = np.asarray(state.episode.step) == 0
    count = np.asarray(runs.optimizer.count).reshape(6, -1)
    # The optimizer counts on in a resumed run, which began at a truncation.
    assert np.all(count == count[:, :1]) and np.all(count % 10 == 0)
    rest = np.asarray(state.episode.length) + count[:, 0]
    assert np.all(rest[fresh] <= 40)
    resumed += np.sum(fresh & (count[:, 0] > 0))
  assert resumed > 0
  inner = sum(x.nbytes for x in jax.tree.leaves(state.failing.runs))
  halves = sum(x.nbytes for x in jax.tree.leaves(runs))
  assert inner == halves * slots / 2


def test_a_single_unperturbed_run_resumes_too():
  estimator = make_estimator(
    "truncated_grad", Early(), 2, SIGMA, failing_states=1, failing_share=1.0
  )
  found, state = estimates(estimator, THETA, samples=2, calls=5)
  x = np.asarray(state.run.params)
  assert np.all(x[:, 2] == x[:, 0]) and np.all(state.episode.length[:, 2] == 2)
  # Nothing is random, so the rest of the episode is as it was.
  np.testing.assert_array_equal(found.gradient[:, 3], found.gradient[:, 1])
  np.testing.assert_array_equal(x[:, 3], x[:, 1])


def test_whole_episodes_have_no_buffer():
  with pytest.raises(UserError, match=r"failing_states=2 does nothing.*pes"):
    make_estimator("full_es", Walk(), 2, SIGMA, failing_states=2)
  with pytest.raises(UserError, match=r"share=0.5 does nothing without"):
    MetaTrainConfig(failing_share=0.5)
