"""Training curves: runs are paired, and divergence stays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train.evaluation import curves as curves_lib
from meta_train.evaluation.curves import training_curves
from meta_train.evaluation.evaluate import seed_keys
from tasks import registry
from tasks.base import Task
from tasks.wrapped import WrappedTask

NUM_STEPS = 30
NUM_SEEDS = 4


class Regression(Task):
  """Noisy linear regression; each split has its own noise."""

  def init(self, key):
    return {"w": jax.random.normal(key, (3,)), "b": jnp.zeros(())}

  def sample_batch(self, key, split="train"):
    x_key, noise_key = jax.random.split(key)
    x = jax.random.normal(x_key, (8, 3))
    noise = {"train": 0.0, "valid": 1.0}[split]
    y = x.sum(-1) + noise * jax.random.normal(noise_key, (8,))
    return x, y

  def loss(self, params, key, data):
    return self.loss_and_aux(params, key, data)[0]

  def loss_and_aux(self, params, key, data):
    x, y = self.sample_batch(key) if data is None else data
    error = x @ params["w"] + params["b"] - y
    aux = {"worst": jnp.max(jnp.abs(error)), "errors": error}
    return jnp.mean(error**2), aux


@functools.cache
def _curves(optimizer, rates, num_steps=NUM_STEPS, **options):
  return jax.tree.map(
    np.asarray,
    training_curves(
      Regression(),
      getattr(optax, optimizer),
      jnp.asarray(rates),
      seed_keys(0, NUM_SEEDS),
      num_steps=num_steps,
      num_final_batches=8,
      **options,
    ),
  )


def test_equal_optimizers_have_bitwise_equal_runs():
  curves = _curves("sgd", (0.05, 0.05, 1.5))
  for leaf in jax.tree.leaves(curves):
    np.testing.assert_array_equal(leaf[0], leaf[1])
  assert curves.losses.shape == (3, NUM_SEEDS, NUM_STEPS)
  assert not np.array_equal(curves.losses[0], curves.losses[2])


def test_all_optimizers_start_alike_and_seeds_differ():
  sgd, adam = _curves("sgd", (0.05, 0.05, 1.5)), _curves("adam", (0.1, 0.01))
  first = np.concatenate([sgd.losses[..., 0], adam.losses[..., 0]])
  np.testing.assert_allclose(first, np.tile(first[:1], (5, 1)), rtol=1e-6)
  assert len(np.unique(first[0])) == NUM_SEEDS


def test_batches_are_paired_at_every_step():
  # A rate of zero leaves the parameters alone: the curve is the batches'.
  sgd, adam = _curves("sgd", (0.0,)), _curves("adam", (0.0,))
  np.testing.assert_allclose(sgd.losses, adam.losses, rtol=1e-6)
  assert np.std(sgd.losses[0, 0]) > 0


def test_seeds_and_steps_are_the_same_however_many_there_are():
  few, many = seed_keys(0, 3), seed_keys(0, 5)
  np.testing.assert_array_equal(
    jax.random.key_data(few), jax.random.key_data(many)[:3]
  )
  short = _curves("sgd", (0.05, 0.05, 1.5), num_steps=10)
  long = _curves("sgd", (0.05, 0.05, 1.5))
  np.testing.assert_allclose(short.losses, long.losses[..., :10], rtol=1e-5)


def test_curve_is_that_of_a_plain_loop():
  task, key = Regression(), seed_keys(0, NUM_SEEDS)[2]

  def at(stream, i):
    return jax.random.fold_in(jax.random.fold_in(key, stream), i)

  params = task.init(at(0, 0))
  losses = []
  for i in range(NUM_STEPS):
    loss, grads = jax.value_and_grad(task.loss)(params, at(1, i), None)
    params = jax.tree.map(lambda p, g: p - 0.05 * g, params, grads)
    losses.append(loss)
  np.testing.assert_allclose(
    _curves("sgd", (0.05, 0.05, 1.5)).losses[0, 2], losses, rtol=1e-4
  )


def test_final_measures_tell_splits_apart():
  final = _curves("sgd", (0.05, 0.05, 1.5)).final
  assert set(final) == {"train", "valid"}
  # What is not a scalar is no measure.
  assert set(final["train"]) == {"loss", "worst"}
  assert (final["train"]["loss"][0] < 0.1).all()
  # The held-out split has noise of variance 1 in its targets; 4 seeds of 64
  # samples each give it a standard error of 0.09.
  assert final["valid"]["loss"][0].mean() == pytest.approx(1.0, abs=0.4)


@pytest.mark.parametrize("wrap", [lambda task: task, WrappedTask])
def test_noise_of_training_steps_is_not_measured(wrap):
  task = wrap(registry.task("quadratic_24_noisy"))
  # A step of size 0 stays where it is.
  curves = training_curves(
    task,
    optax.sgd,
    jnp.zeros(1),
    seed_keys(0, 2),
    num_steps=4,
    num_final_batches=2,
  )
  assert np.ptp(curves.losses, axis=-1).min() > 0.1
  keys = jax.vmap(lambda key: jax.random.fold_in(key, 0))
  start = jax.vmap(task.init)(keys(keys(seed_keys(0, 2))))
  clean = [
    task.loss(x, jax.random.key(0), {"noise": jnp.zeros(24)})
    for x in [{"x": each} for each in start["x"]]
  ]
  for split in ("train", "valid"):
    np.testing.assert_allclose(curves.final[split]["loss"][0], clean, rtol=1e-5)


def test_divergence_is_infinite_and_stays():
  curves = _curves("sgd", (1e30, 0.05))
  assert curves.diverged[0].all() and not curves.diverged[1].any()
  assert np.isinf(curves.losses[0, :, -1]).all()
  assert np.isinf(curves.final["train"]["loss"][0]).all()
  assert np.isinf(curves.final["valid"]["loss"][0]).all()
  assert not np.isnan(curves.losses).any()
  broken = np.isinf(curves.losses[0])
  assert (np.diff(broken.astype(int), axis=-1) >= 0).all()
  assert np.isfinite(curves.losses[1]).all()


def test_few_variants_at_once_give_the_same():
  whole, parts = (
    _curves("sgd", (0.05, 0.05, 1.5), variants_at_once=n) for n in (None, 2)
  )
  np.testing.assert_allclose(whole.losses, parts.losses, rtol=1e-4)


def test_extra_steps_continue_the_same_runs():
  rates = (0.05, 0.05, 1.5)
  short = _curves("sgd", rates, num_steps=10, extra_steps=NUM_STEPS - 10)
  plain, long = _curves("sgd", rates, num_steps=10), _curves("sgd", rates)
  assert plain.beyond is None
  np.testing.assert_allclose(
    np.concatenate([short.losses, short.beyond], -1), long.losses, rtol=1e-5
  )
  for split in ("train", "valid"):  # Measured before the extra steps.
    np.testing.assert_allclose(
      short.final[split]["loss"], plain.final[split]["loss"], rtol=1e-4
    )


@pytest.mark.parametrize(
  ("variants", "seeds", "devices", "expected"),
  [
    (7, 16, 2, ("seeds", 2)),  # Both divide evenly enough: data go by seed.
    (14, 5, 2, ("variants", 2)),
    (1, 5, 2, ("seeds", 2)),  # 3 and 2 and one idle.
    (7, 1, 4, ("variants", 4)),
    (1, 1, 4, ("seeds", 1)),
  ],
)
def test_devices_share_the_runs_evenly(variants, seeds, devices, expected):
  assert curves_lib._shared_axis(variants, seeds, devices) == expected


def test_runs_do_not_depend_on_the_devices():
  # Five variants and four seeds do not divide among three devices.
  rates = (0.05, 0.05, 1.5, 0.01, 0.02)
  one, three = (
    _curves("sgd", rates, devices=tuple(jax.devices()[:n])) for n in (1, 3)
  )
  assert len(jax.devices()) >= 3
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(three)):
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=1e-4)


def test_what_is_measured_may_differ_from_what_is_trained():
  normal = _curves("sgd", (0.05, 0.01))
  moved = _curves("sgd", (0.05, 0.01), eval_params=_shifted)
  np.testing.assert_allclose(normal.losses, moved.losses, rtol=1e-6)
  # The bias is off by one, so the squared error by one.
  rise = moved.final["train"]["loss"] - normal.final["train"]["loss"]
  assert (rise[0] > 0.5).all()


def _shifted(state, params):
  del state
  return {**params, "b": params["b"] + 1.0}


def test_optimizers_that_want_the_loss_get_it():
  seen = []

  def update(updates, state, params=None, *, value, **extra):
    del params, extra
    seen.append(value.shape)
    return jax.tree.map(lambda g: -0.05 * value * 0 - 0.05 * g, updates), state

  tx = optax.GradientTransformationExtraArgs(optax.init_empty_state, update)
  curves = training_curves(
    Regression(),
    lambda hyper: tx,
    None,
    seed_keys(0, NUM_SEEDS),
    num_steps=NUM_STEPS,
    splits=(),
  )
  assert seen == [()]
  np.testing.assert_allclose(
    curves.losses[0], _curves("sgd", (0.05, 0.05, 1.5)).losses[0], rtol=1e-4
  )


def test_no_steps_are_refused():
  with pytest.raises(ValueError, match="num_steps=0 must be at least 1"):
    _curves("sgd", (0.1,), num_steps=0)
