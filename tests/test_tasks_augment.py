"""Augmentations: what they change, and what they must leave alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import augment, registry
from tasks.augment import base as augment_base

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def family():
  """Softmax regression on digits: quick to compile."""
  return registry.family("mlp_digits_32", hidden=(), batch_size=16)


@pytest.fixture(scope="module")
def plain(family):
  task = family.sample_task(KEY)
  return task, task.init(KEY)


def _wrap(plain, augmentation, cfg=None):
  return augmentation.wrap(plain[0], cfg)


@pytest.mark.parametrize("name", augment.AUGMENTATIONS)
def test_every_augmentation_vmaps_and_differentiates(family, name):
  wrapped = augment.augment(family, name)

  def run(key):
    task = wrapped.task_fn(wrapped.sample(key))
    params, state = task.init_with_state(key)

    def loss_fn(params):
      loss, new_state = task.loss_with_state(params, state, key, None)
      return loss, new_state

    (loss, new_state), gradient = jax.value_and_grad(loss_fn, has_aux=True)(
      params
    )
    valid = task.loss(params, key, task.sample_batch(key, "valid"))
    return params, state, new_state, loss, gradient, task.normalizer(valid)

  params, state, new_state, loss, gradient, valid = jax.jit(jax.vmap(run))(
    jax.random.split(KEY, 2)
  )
  assert jax.tree.structure(state) == jax.tree.structure(new_state)
  jax.tree.map(lambda a, b: a.dtype == b.dtype, params, gradient)
  for x in jax.tree.leaves((loss, gradient, valid)):
    assert np.isfinite(x).all()
  assert wrapped.data_ids == family.data_ids


@pytest.mark.parametrize("level", ["global", "tensor", "parameter"])
def test_reparametrize_changes_units_only(family, plain, level):
  task, params = plain
  augmentation = augment.Reparametrize(level)
  scale = augmentation.sample(KEY, family, family.sample(KEY))
  wrapped = augmentation.wrap(task, scale)
  z = wrapped.init(KEY)
  np.testing.assert_allclose(
    wrapped.loss(z, KEY, None), task.loss(params, KEY, None), rtol=1e-5
  )
  if level == "global":
    scale = jax.tree.map(lambda _: scale, params)
  gradient = jax.grad(task.loss)(params, KEY, None)
  jax.tree.map(
    lambda gz, g, s: np.testing.assert_allclose(
      gz, s * g, rtol=1e-4, atol=1e-6 * s.max()
    ),
    jax.grad(wrapped.loss)(z, KEY, None),
    gradient,
    scale,
  )
  count = len(
    np.unique(np.concatenate([np.ravel(s) for s in jax.tree.leaves(scale)]))
  )
  assert count == {"global": 1, "tensor": 2, "parameter": 650}[level]


def test_scales_are_log_uniform_within_bounds():
  x = np.log10(augment_base.log_uniform(KEY, 1e-3, 1e3, (4000,)))
  assert -3 <= x.min() < -2.9 < 2.9 < x.max() <= 3
  # Uniform of width 6: 5 standard errors of the mean are 0.14.
  assert abs(x.mean()) < 0.14


def test_the_normaliser_does_not_see_a_scaled_loss(plain):
  task, params = plain
  wrapped = augment.ScaleLoss().wrap(task, jnp.float32(50.0))
  loss = wrapped.loss(params, KEY, None)
  np.testing.assert_allclose(loss, 50 * task.loss(params, KEY, None), rtol=1e-6)
  np.testing.assert_allclose(wrapped.normalizer(loss), loss / 50, rtol=1e-6)


def test_effective_batch_size_repeats_training_examples_only(plain):
  wrapped = augment.EffectiveBatchSize().wrap(plain[0], jnp.float32(0.25))
  distinct = lambda split: len(  # noqa: E731
    np.unique(
      np.reshape(wrapped.sample_batch(KEY, split)["image"], (16, -1)), axis=0
    )
  )
  assert distinct("train") <= 4
  assert distinct("valid") > 8


def test_label_noise_swaps_the_stated_fraction_of_training_labels():
  task = registry.task("mlp_digits_48", batch_size=4096)
  noisy = augment.LabelNoise().wrap(task, jnp.float32(0.3))
  changed = lambda split: np.mean(  # noqa: E731
    np.asarray(noisy.sample_batch(KEY, split)["label"])
    != np.asarray(task.sample_batch(KEY, split)["label"])
  )
  # One in ten swaps gives the right label; 5 standard errors are 0.035.
  assert abs(changed("train") - 0.27) < 0.035
  assert changed("valid") == 0


def test_label_noise_needs_labels():
  class Bowl(augment.WrappedTask):
    def sample_batch(self, key, split="train"):
      return None

  task = Bowl(registry.task("mlp_digits_48"))
  with pytest.raises(ValueError, match="no labels"):
    augment.LabelNoise().wrap(task, 0.1).sample_batch(KEY)


def test_cast_gradient_rounds_the_gradient_not_the_loss(plain):
  task, params = plain
  wrapped = _wrap(plain, augment.CastGradient("bfloat16"))
  loss, gradient = jax.value_and_grad(wrapped.loss)(params, KEY, None)
  expected, exact = jax.value_and_grad(task.loss)(params, KEY, None)
  assert loss == expected
  jax.tree.map(
    lambda g, e: np.testing.assert_array_equal(
      g, e.astype(jnp.bfloat16).astype(jnp.float32)
    ),
    gradient,
    exact,
  )


def test_noisy_gradient_has_the_stated_size(plain):
  task, params = plain
  wrapped = augment.NoisyGradient().wrap(task, jnp.float32(0.5))
  batch = task.sample_batch(KEY)
  exact = jax.grad(task.loss)(params, KEY, batch)["layer_00"]["w"]
  noisy = jax.grad(wrapped.loss)(params, KEY, batch)["layer_00"]["w"]
  noise = (noisy - exact) / jnp.sqrt(jnp.mean(exact**2))
  # 640 draws: the standard error of the deviation is 0.5 / sqrt(1280).
  assert abs(np.std(noise) - 0.5) < 5 * 0.5 / np.sqrt(1280)
  assert abs(np.mean(noise)) < 5 * 0.5 / np.sqrt(640)


def test_delayed_gradient_is_that_of_past_parameters(plain):
  task, params = plain
  wrapped = _wrap(plain, augment.DelayGradient(num_steps=2))
  _, state = wrapped.init_with_state(KEY)
  step = jax.jit(jax.value_and_grad(wrapped.loss_with_state, has_aux=True))
  batch = task.sample_batch(KEY)
  path = [jax.tree.map(lambda p, i=i: p + i, params) for i in range(5)]
  exact = jax.jit(jax.grad(task.loss))
  for i, now in enumerate(path):
    (_, state), gradient = step(now, state, KEY, batch)
    jax.tree.map(
      lambda g, e: np.testing.assert_allclose(g, e, rtol=1e-4, atol=1e-6),
      gradient,
      exact(path[max(0, i - 2)], KEY, batch),
    )


def test_a_subspace_starts_at_the_start_and_moves_all_parameters(family):
  augmentation = augment.Subspace(dimension=32)
  cfg = augmentation.sample(KEY, family, family.sample(KEY))
  task = augmentation.wrap(family.sample_task(KEY), cfg)
  params = task.init(KEY)
  assert sum(x.size for x in jax.tree.leaves(params)) == 32
  jax.tree.map(
    np.testing.assert_array_equal, task.expand(params["z"]), cfg.start
  )
  moved = task.expand(params["z"] + 1)
  difference = jax.tree.map(lambda a, b: np.abs(a - b), moved, cfg.start)
  for x in jax.tree.leaves(difference):
    np.testing.assert_allclose(x, 1, rtol=1e-5)


def test_a_mixture_is_the_weighted_sum_of_its_members(family):
  mixture = augment.MixtureFamily([family, family], name="two")
  cfg = mixture.sample(KEY)
  np.testing.assert_allclose(jnp.sum(cfg["weights"]), 1, rtol=1e-6)
  task = mixture.task_fn(cfg)
  params = task.init(KEY)
  data = task.sample_batch(KEY, "valid")
  expected = sum(
    w * family.task_fn(c).loss(p, KEY, d)
    for w, c, p, d in zip(cfg["weights"], cfg["members"], params, data)
  )
  np.testing.assert_allclose(task.loss(params, KEY, data), expected, rtol=1e-5)


def test_normalisers_are_monotone_bounded_and_anchored(plain):
  task, _ = plain
  curve = tuple(np.exp(-np.linspace(0, 3, 50)).tolist())
  losses = jnp.array([0.0, curve[-1], 0.2, 1.0, 1.5, 1e9, jnp.inf, jnp.nan])
  for augmentation in (
    augment.ClipLoss(1.25),
    augment.RescaleLoss(start=1.0, best=curve[-1], ceiling=1.25),
    augment.BaselineCurve(curve, ceiling=1.25),
  ):
    value = np.asarray(augmentation.wrap(task, None).normalizer(losses))
    assert np.isfinite(value).all()
    assert (np.diff(value[:4]) > 0).all()
    np.testing.assert_allclose(value[5:], 1.25)
  # The curve is e^-3t: a loss of e^-1.5 takes half of the run.
  half = augment.BaselineCurve(curve).wrap(task, None).normalizer(np.exp(-1.5))
  np.testing.assert_allclose(half, 0.5, atol=0.01)


def test_a_baseline_curve_can_be_measured(plain):
  curve = augment.adam_curve(plain[0], KEY, num_steps=60, learning_rate=0.1)
  assert len(curve) == 60
  assert curve[-1] < 0.5 * curve[0]
  augment.BaselineCurve(curve)


def test_by_name_a_family_is_measured_by_its_own_curve(family):
  """Untrained members count about 1, wherever their losses lie."""
  measured = augment.AdamCurve(num_steps=60, learning_rate=0.1)
  for augmented in (family, augment.augment(family, augment.ScaleLoss((9, 9)))):
    wrapped = augment.augment(augmented, measured)

    def untrained(key, wrapped=wrapped):
      task = wrapped.sample_task(key)
      return task.normalizer(task.loss(task.init(key), key, None))

    values = jax.jit(jax.vmap(untrained))(jax.random.split(KEY, 8))
    np.testing.assert_allclose(np.mean(values), 1.0, atol=0.15)
  with pytest.raises(ValueError, match="not measured"):
    measured.wrap(family.sample_task(KEY), None)


def test_initial_weights_are_scaled_and_vectors_are_not(plain):
  task, params = plain
  layer = params["layer_00"]
  scaled = augment.ScaleInit().wrap(task, jnp.float32(3.0)).init(KEY)
  np.testing.assert_allclose(scaled["layer_00"]["w"], 3.0 * layer["w"])
  np.testing.assert_array_equal(scaled["layer_00"]["b"], layer["b"])


def test_names_joined_by_plus_are_a_mixture():
  mixed = registry.task("softmax_iris+quadratic_16", seed=1)
  assert len(mixed.init(KEY)) == 2
  assert mixed.data_ids == {("iris", "held_out"), ("quadratic", "held_out")}
  assert np.isfinite(mixed.loss(mixed.init(KEY), KEY, None))
  names = ("softmax_iris", "mlp_digits_48")
  bounded = registry.task("+".join(names)).normalizer
  ceiling = bounded(jnp.inf)
  members = [registry.task(name).normalizer(jnp.inf) for name in names]
  assert min(members) < ceiling < max(members)
  assert bounded(jnp.nan) == ceiling > bounded(0.5) == 0.5
  with pytest.raises(ValueError, match="Did you mean 'softmax_iris'"):
    registry.task("quadratic_16+softmax_iri").init(KEY)


@pytest.mark.parametrize(
  ("make", "message"),
  [
    (lambda: augment.get("scale_los"), "Did you mean 'scale_loss'"),
    (lambda: augment.Reparametrize("layer"), "global, parameter, tensor"),
    (lambda: augment.Reparametrize(scales=(0.0, 1.0)), "positive"),
    (lambda: augment.LabelNoise((0.5, 2.0)), r"in \[0, 1\]"),
    (lambda: augment.EffectiveBatchSize((0.5, 2.0)), "must not exceed 1"),
    (lambda: augment.CastGradient("int8"), "bfloat16, float16"),
    (lambda: augment.DelayGradient(0), "at least 1"),
    (lambda: augment.Subspace(0), "at least 1"),
    (lambda: augment.RescaleLoss(1.0, 2.0), "must exceed"),
    (lambda: augment.BaselineCurve((1.0, 2.0)), "must fall"),
    (lambda: augment.MixtureFamily([]), "two or more"),
  ],
)
def test_bad_options_say_what_to_do(make, message):
  with pytest.raises(ValueError, match=message):
    make()
