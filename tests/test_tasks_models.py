"""Models and data-free problems against what is known of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tasks import layers, losses, registry
from tasks.augment import evolution
from tasks.data import molecules
from tasks.families import control, functions, mixer, neural_field
from tasks.transformer import Transformer, softmax_attention

KEY = jax.random.key(0)


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (1, 1), (5, 2)])
def test_convolution_equals_the_library(size, stride):
  layer = layers.init_conv(KEY, 3, 4, size=size)
  x = layers.normal(jax.random.key(1), (2, 8, 6, 3))
  before = (size - 1) // 2
  expected = jax.lax.conv_general_dilated(
    x,
    layer["w"],
    (stride, stride),
    [(before, size - 1 - before)] * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )
  actual = layers.conv(layer, x, stride=stride)
  np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_cross_entropy_and_its_gradient_equal_optax():
  logits = 5 * layers.normal(KEY, (7, 4))
  labels = jnp.arange(7) % 4
  ours = jax.value_and_grad(losses.softmax_cross_entropy)
  theirs = jax.value_and_grad(
    lambda z: optax.losses.softmax_cross_entropy_with_integer_labels(
      z, labels
    ).mean()
  )
  for a, b in zip(ours(logits, labels), theirs(logits)):
    np.testing.assert_allclose(a, b, atol=1e-6)
  weight = jnp.array([1.0, 0, 0, 0, 0, 0, 0])
  np.testing.assert_allclose(
    losses.softmax_cross_entropy(logits, labels, weight),
    losses.softmax_cross_entropy(logits[:1], labels[:1]),
    rtol=1e-6,
  )


def test_sigmoid_cross_entropy_equals_optax():
  logits, target = 9 * layers.normal(KEY, (20,)), jnp.linspace(0, 1, 20)
  np.testing.assert_allclose(
    losses.sigmoid_cross_entropy(logits, target),
    optax.losses.sigmoid_binary_cross_entropy(logits, target),
    atol=1e-5,
  )


def test_norms_have_unit_moments():
  x = 3 + 2 * layers.normal(KEY, (64, 16))
  layer = layers.init_norm(16)
  for fn, axis in ((layers.layer_norm, 1), (layers.batch_norm, 0)):
    y = fn(layer, x)
    np.testing.assert_allclose(y.mean(axis), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis), 1, atol=1e-3)


def test_patches_are_cut_row_by_row():
  image = jnp.arange(16.0).reshape(1, 4, 4, 1)
  patches = layers.to_patches(image, 2)
  np.testing.assert_array_equal(patches[0, 1], [2, 3, 6, 7])
  with pytest.raises(ValueError, match="must divide"):
    layers.to_patches(image, 3)


def test_embedding_by_a_product_looks_up():
  table = layers.normal(KEY, (5, 3))
  tokens = jnp.array([[4, 0], [2, 2]])
  np.testing.assert_allclose(layers.embed(table, tokens), table[tokens])


@pytest.mark.parametrize("attention", ["softmax", "flt"])
def test_causal_blocks_do_not_see_the_future(attention):
  blocks = Transformer(
    width=8, num_blocks=1, attention=attention, is_causal=True
  )
  params = blocks.init(KEY)
  x = layers.normal(KEY, (1, 6, 8))
  changed = x.at[:, 4:].multiply(jnp.linspace(-1, 1, 8))
  apply = jax.jit(blocks)
  np.testing.assert_allclose(
    apply(params, x)[:, :4], apply(params, changed)[:, :4], atol=1e-5
  )
  assert not np.allclose(apply(params, x)[:, 4:], apply(params, changed)[:, 4:])


def test_softmax_attention_of_equal_keys_is_the_mean():
  value = layers.normal(KEY, (1, 5, 2, 4))
  same = jnp.ones_like(value)
  out = softmax_attention(same, same, value, is_causal=False)
  np.testing.assert_allclose(out[0, 0], value[0].mean(0), atol=1e-6)


def test_offsets_of_patches_are_relative():
  offsets = mixer._offsets(3)
  np.testing.assert_array_equal(offsets[4, 0], [1, 1])
  np.testing.assert_array_equal(offsets, -offsets.swapaxes(0, 1))


@pytest.mark.parametrize(
  ("name", "place"),
  [
    ("rosenbrock", 1.0),
    ("rastrigin", 0.0),
    ("ackley", 0.0),
    ("griewank", 0.0),
    ("levy", 1.0),
    ("styblinski_tang", -2.903534),
    ("zakharov", 0.0),
    ("dixon_price", [2 ** (2.0 ** (1 - i) - 1) for i in range(1, 5)]),
    ("beale", [3.0, 0.5]),
    ("himmelblau", [3.0, 2.0]),
    ("booth", [1.0, 3.0]),
  ],
)
def test_minima_are_where_they_should_be(name, place):
  function = functions.FUNCTIONS[name]
  place = jnp.broadcast_to(jnp.asarray(place), (function.dimension or 4,))
  np.testing.assert_allclose(function.fn(place), 0, atol=1e-4)
  for i in range(8):
    offset = 0.3 * layers.normal(jax.random.key(i), place.shape)
    assert function.fn(place + offset) > 0


def test_a_quadratic_has_its_spectrum():
  family = registry.family("quadratic_16")
  cfg = family.sample(KEY)
  task = family.task_fn(cfg)
  batch = task.sample_batch(KEY, "valid")
  optimum = {"x": cfg["optimum"]}
  assert task.loss(optimum, KEY, batch) == 0
  hessian = jax.hessian(lambda x: task.loss({"x": x}, KEY, batch))(optimum["x"])
  np.testing.assert_allclose(
    np.linalg.eigvalsh(hessian), np.sort(cfg["curvature"]), atol=1e-5
  )
  assert np.abs(hessian - np.diag(np.diag(hessian))).max() > 0.01


def test_parts_of_a_generated_problem_differ():
  cfgs = [
    registry.family("quadratic_16", part).sample(KEY)["optimum"]
    for part in ("meta_train", "validation", "held_out")
  ]
  assert not np.allclose(cfgs[0], cfgs[1])
  assert not np.allclose(cfgs[1], cfgs[2])


def test_evolution_gradient_is_unbiased_on_a_quadratic():
  """For a quadratic, antithetic differences estimate the exact gradient."""
  params = {"x": jnp.array([1.0, -2.0, 3.0])}
  fn = lambda p: jnp.sum(p["x"] ** 2)  # noqa: E731
  loss, grad = jax.value_and_grad(
    lambda p: evolution.evolution_loss(fn, p, KEY, num_pairs=20_000, sigma=0.1)
  )(params)
  assert loss == 14
  # Variance of one pair is at most 2 |g|^2 = 112: 5 standard errors are 0.37.
  np.testing.assert_allclose(grad["x"], 2 * params["x"], atol=0.37)


def test_the_density_of_a_flow_is_one_of_grey_levels():
  """Of the identity, by hand; in units of the noise it is never above 1."""
  task = registry.task("flow_digits_48x4")
  params = jax.tree.map(jnp.zeros_like, task.init(KEY))
  batch = {"image": jnp.full((3, 8, 8), 0.5)}
  draws = layers.uniform(KEY, (3, 64))
  x = 2 * (0.5 + draws / 16) / (1 + 1 / 16) - 1
  density = np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi) * (2 / 17)
  np.testing.assert_allclose(
    task.loss(params, KEY, batch), -np.mean(np.log(density)), rtol=1e-5
  )


def test_policy_gradient_prefers_what_balances():
  """Pushing against the fall beats pushing with it, by value."""
  task = registry.task("cart_pole_32")
  family = task.family
  against = {
    "hidden": {"w": jnp.zeros((4, 32)).at[2:, 0].set(3.0), "b": jnp.zeros(32)},
    "action": {"w": jnp.zeros((32, 1)).at[0].set(8.0), "b": jnp.zeros(1)},
  }
  with_fall = jax.tree.map(jnp.negative, against)
  with_fall["hidden"] = against["hidden"]
  loss = jax.jit(lambda p: task.loss(p, KEY, None))
  assert 0 <= loss(against) < 0.1 < 0.5 < loss(with_fall) <= 1
  assert family.horizon == 128


def test_a_resting_pole_falls_the_way_it_leans():
  state = jnp.array([[0.0, 0.0, 0.1, 0.0], [0.0, 0.0, -0.1, 0.0]])
  for push in (True, False):
    later = control._cart_pole_step(state, jnp.array([push] * 2), 0.5)
    assert later[0, 3] - later[1, 3] > 0


def test_pixels_of_a_field_are_split_without_overlap():
  splits = neural_field._pixel_splits(32)
  np.testing.assert_array_equal(
    np.sort(np.concatenate(list(splits.values()))), np.arange(32 * 32)
  )
  assert len(splits["valid"]) == len(splits["test"]) == 128


def test_energies_are_invariant_and_have_the_wells_depth():
  position = layers.normal(KEY, (5, 3))
  kind = jnp.array([0, 1, 2, 0, 1])
  angle = 0.7
  turn = jnp.array(
    [
      [jnp.cos(angle), -jnp.sin(angle), 0],
      [jnp.sin(angle), jnp.cos(angle), 0],
      [0, 0, 1],
    ]
  )
  energy = molecules.energy(position, kind, 3)
  order = jnp.array([3, 1, 4, 0, 2])
  np.testing.assert_allclose(
    energy, molecules.energy(position @ turn + 2.0, kind, 3), rtol=1e-4
  )
  np.testing.assert_allclose(
    energy, molecules.energy(position[order], kind[order], 3), rtol=1e-4
  )
  along = jnp.linspace(0.5, 3, 400)
  pair = jnp.stack([jnp.zeros((400, 3)), along[:, None] * jnp.eye(3)[0]], 1)
  curve = molecules.energy(pair, jnp.array([[0, 0]] * 400), 3)
  # Half of the depth per atom; depths are between 0.5 and 1.5.
  assert -0.75 < curve.min() < -0.25
  assert 0.9 < along[jnp.argmin(curve)] < 1.3
