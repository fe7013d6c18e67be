"""Expert supervision: what it compares, adds, costs and forgets."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import flt_lopt
import tasks
from flt_lopt.layout import FlatLayout, TensorInfo
from meta_train.config import MetaTrainConfig
from meta_train.engine import training
from meta_train.engine.outer import OuterLoop
from meta_train.engine.supervision import (
  EXPERTS,
  MAX_LOG_RATIO,
  WORST,
  Supervision,
  parse_fade,
)
from meta_train.engine.unroll import Unroller
from meta_train.errors import UserError
from meta_train.estimators import make_estimator

LOPT = flt_lopt.LearnedOptimizer(
  flt_lopt.OptimizerConfig(hidden_units=2, controller="off")
)
START, UNRAVEL = ravel_pytree(LOPT.init(jax.random.key(0)))
THETA = START + 0.1 * jax.random.normal(jax.random.key(5), START.shape)
ADAMW = Supervision("adamw", fade=100)
SHAPES = ((3, 5), (70,), ())


def tensors(seed, scale=1.0):
  rng = np.random.default_rng(seed)
  return [scale * rng.normal(size=shape).astype("f4") for shape in SHAPES]


def compared(ours, theirs):
  layout = FlatLayout([TensorInfo(s) for s in SHAPES])
  flat = [layout.flatten(list(map(jnp.asarray, x))) for x in (ours, theirs)]
  return np.asarray(ADAMW.compare(layout, *flat))


def test_directions_and_sizes_are_compared_tensor_by_tensor():
  ours, theirs = tensors(0), tensors(1)
  norms = [[np.linalg.norm(x) for x in group] for group in (ours, theirs)]
  cosines = [
    np.vdot(a, b) / m / n
    for a, b, m, n in zip(ours, theirs, *norms, strict=True)
  ]
  want = [
    np.mean(1 - np.array(cosines)),
    np.mean(np.abs(np.log(np.divide(*norms)))),
  ]
  np.testing.assert_allclose(compared(ours, theirs), want, rtol=1e-4)
  for scale in (1e-6, 1.0, 1e3):
    same = tensors(0, scale=scale)
    np.testing.assert_allclose(compared(same, same), [0, 0], atol=1e-5)
  longer = [np.exp(2) * x for x in ours]
  np.testing.assert_allclose(compared(ours, longer), [0, 2], atol=1e-4)
  away = [-x for x in ours]
  np.testing.assert_allclose(compared(ours, away), [2, 0], atol=1e-5)


def test_every_comparison_is_finite_and_bounded():
  ours = tensors(0)
  nothing = [0 * x for x in ours]
  np.testing.assert_allclose(compared(nothing, nothing), [1, 0], atol=1e-5)
  for odd in (nothing, [np.inf * x for x in ours], [np.nan * x for x in ours]):
    for found in (compared(ours, odd), compared(odd, ours)):
      assert 0 <= found[0] <= WORST[0] and 0 <= found[1] <= MAX_LOG_RATIO


def test_weights_fade_linearly_and_stay():
  for step, want in [
    (0, [0.7, 0.3]),
    (50, [0.5, 0.15]),
    (100, [0.3, 0.0]),
    (10_000, [0.3, 0.0]),
  ]:
    np.testing.assert_allclose(ADAMW.weights(step), want, atol=1e-6)
  at_once = dataclasses.replace(ADAMW, fade=0)
  np.testing.assert_allclose(at_once.weights(0), [0.3, 0.0], atol=1e-6)


class Net(tasks.Task):
  """A linear map with a bias; it breaks where a weight exceeds 4."""

  def init(self, key):
    return {"w": jax.random.normal(key, (4, 3)), "b": jnp.zeros(3)}

  def loss(self, params, key, data):
    x = jax.random.normal(key, (8, 4))
    out = x @ params["w"] + params["b"] - 1.0
    loss = jnp.mean(jnp.square(out))
    return jnp.where(jnp.max(jnp.abs(params["w"])) > 4.0, jnp.nan, loss)

  def normalizer(self, loss):
    return jnp.minimum(jnp.where(jnp.isnan(loss), jnp.inf, loss), 50.0)


def unroller(supervision, **options):
  settings = dict(truncation=6, min_horizon=12, max_horizon=12) | options
  return Unroller(
    family=tasks.single_task_to_family(Net()),
    lopt=LOPT,
    unravel=UNRAVEL,
    withhold=0.0,
    objective="mean",
    supervision=supervision,
    **settings,
  )


def test_the_expert_sees_the_run_and_adds_its_weighted_distance():
  """Against optax.adamw, in a loop of its own, over two unrolls."""
  unroll = unroller(ADAMW)
  episode, run = unroll.start(jax.random.key(1), 50)
  advance = jax.jit(unroll.advance)
  params = jax.tree.map(jnp.asarray, Net().init(jax.random.key(0)))
  leaves = unroll.layout.unflatten(run.params)
  params = jax.tree.unflatten(jax.tree.structure(params), leaves)
  expert = optax.adamw(1e-3)
  ours = LOPT.transform(UNRAVEL(THETA), num_steps=int(episode.num_steps))
  state, own = expert.init(params), ours.init(params)

  @jax.jit
  def step(params, state, own, key):
    gradient = jax.grad(Net().loss)(params, key, None)
    theirs, state = expert.update(gradient, state, params)
    updates, own = ours.update(gradient, own, params)
    moved = optax.apply_updates(params, updates)
    return moved, state, own, updates, theirs

  for n in range(2):
    run, result = advance(THETA, episode, run, jax.random.key(n))
    found = []
    for key in jax.random.split(jax.random.key(n), 6):
      params, state, own, updates, theirs = step(params, state, own, key)
      pairs = list(
        zip(jax.tree.leaves(updates), jax.tree.leaves(theirs), strict=True)
      )
      lengths = [[np.linalg.norm(x) for x in pair] for pair in pairs]
      cosines = [
        np.vdot(*pair) / np.prod(length)
        for pair, length in zip(pairs, lengths, strict=True)
      ]
      ratios = [abs(np.log(a / b)) for a, b in lengths]
      found.append([1 - np.mean(cosines), np.mean(ratios)])
    want = np.mean(found, axis=0) @ [0.5, 0.15]
    np.testing.assert_allclose(result.loss - result.reported, want, rtol=1e-3)
    assert want > 0.01
  np.testing.assert_allclose(
    run.expert[0].mu["w"], state[0].mu["w"], rtol=1e-3, atol=1e-5
  )


def test_what_is_reported_and_where_the_run_goes_do_not_depend_on_it():
  results = []
  for supervision in (None, ADAMW, Supervision("muon")):
    unroll = unroller(supervision)
    episode, run = unroll.start(jax.random.key(1))
    run, result = jax.jit(unroll.advance)(
      THETA, episode, run, jax.random.key(0)
    )
    results.append((np.asarray(run.params), float(result.reported)))
    added = float(result.loss - result.reported)
    assert (added == 0) == (supervision is None) and np.isfinite(added)
    if supervision is None:
      # Off, it leaves nothing behind to carry or to save.
      assert not jax.tree.leaves((run.expert, episode.supervision))
  for params, reported in results[1:]:
    np.testing.assert_allclose(params, results[0][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(reported, results[0][1], rtol=1e-5)


def test_divergence_is_absorbing_at_the_worst_and_leaves_the_expert_sound():
  unroll = unroller(ADAMW)
  episode, run = unroll.start(jax.random.key(1))
  run = run._replace(params=run.params.at[0, 0].set(jnp.inf))
  advance = jax.jit(unroll.advance)
  for n in range(2):
    run, result = advance(THETA, episode, run, jax.random.key(n))
    np.testing.assert_allclose(
      result.loss, 50.0 + 0.7 * WORST[0] + 0.3 * WORST[1], rtol=1e-5
    )
    assert result.reported == 50.0
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(run.expert))


class Kinked(Net):
  """The gradient of its bias is not finite in the first step; its loss is."""

  def init_with_state(self, key):
    return self.init(key), jnp.zeros([])

  def loss_with_state(self, params, state, key, data):
    kink = jnp.sqrt(jnp.sum(params["b"] ** 2) + jnp.sign(state))
    return self.loss(params, key, data) + kink, state + 1


def test_a_broken_gradient_leaves_the_expert_sound():
  unroll = dataclasses.replace(
    unroller(ADAMW), family=tasks.single_task_to_family(Kinked())
  )
  episode, run = unroll.start(jax.random.key(1))
  run, result = jax.jit(unroll.advance)(THETA, episode, run, jax.random.key(0))
  assert not result.diverged and np.isfinite(result.loss)
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(run.expert))
  # The first step was not counted by the expert, and the others were.
  assert run.expert[0].count == unroll.truncation - 1


@pytest.mark.parametrize(
  "name", ["pes", pytest.param("truncated_grad", marks=pytest.mark.slow)]
)
def test_meta_training_comes_nearer_to_the_expert(name):
  """An expert 30 times faster than we are, and nothing else that counts."""
  teacher = Supervision(
    "adamw", 0.03, direction=(0, 0), magnitude=(100.0, 100.0), fade=0
  )
  unroll = unroller(teacher)
  loop = OuterLoop(
    (make_estimator(name, unroll, START.size, 0.05),),
    optax.adam(0.1),
    num_tasks=4,
    theta_average=0.0,
    key=jax.random.key(7),
    devices=jax.devices()[:1],
  )
  state = loop.init(START)
  episode, run = unroll.start(jax.random.key(1))
  advance = jax.jit(unroll.advance)

  def distance(theta):
    _, result = advance(theta, episode, run, jax.random.key(0))
    return float(result.loss - result.reported) / 100

  before = distance(START)
  for _ in range(30):
    state, _ = loop.step(state)
  assert before > 2.0 and distance(state.theta) < 0.5 * before


@pytest.mark.parametrize("name", EXPERTS)
def test_every_expert_has_a_rate_and_takes_tensors_of_all_shapes(name):
  shapes = [(), (3,), (4, 5), (3, 3, 2, 4)]
  params = [jnp.ones(shape) for shape in shapes]
  gradient = [jax.random.normal(jax.random.key(7), shape) for shape in shapes]
  expert = Supervision(name)
  sizes = []
  for teacher in (expert, Supervision(name, learning_rate=0.5)):
    updates, _ = teacher.update(gradient, teacher.init(params), params)
    assert [u.shape for u in updates] == shapes
    sizes.append(float(jnp.linalg.norm(updates[2])))
  ratio = 0.5 / EXPERTS[name].learning_rate
  np.testing.assert_allclose(sizes[1] / sizes[0], ratio, rtol=0.05)


@pytest.mark.parametrize(
  "settings, words",
  [
    (dict(expert="adam"), "expert=adam is unknown.*did you mean adamw"),
    (dict(expert="muon", expert_direction="a:b"), "direction=a:b must be"),
    (dict(expert="muon", expert_magnitude="1:2:3"), "magnitude=1:2:3 must"),
    (dict(expert="muon", expert_magnitude="-1"), "from 0 up, as in 0.7:0.3"),
  ],
)
def test_mistakes_are_refused(settings, words):
  with pytest.raises(UserError, match=words):
    training.build(
      MetaTrainConfig(num_devices=1, **settings),
      (tasks.single_task_to_family(Net()),),
    )


def test_an_expert_s_settings_need_an_expert():
  words = "expert_fade=5 does nothing without --expert; give --expert=muon"
  with pytest.raises(UserError, match=words):
    MetaTrainConfig(expert_fade=5)


def test_a_fade_is_one_or_two_weights():
  assert parse_fade("x", "0.7:0.3") == (0.7, 0.3)
  assert parse_fade("x", "1") == (1.0, 1.0)
