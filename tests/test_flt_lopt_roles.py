"""What names tell of tensors, and what follows from it."""

import jax
import jax.numpy as jnp
import numpy as np
import optimizer_variants as variants
import pytest

import flt_lopt
from flt_lopt import geometry, roles
from flt_lopt.layout import TensorInfo


@pytest.mark.parametrize(
  ("tree", "role"),
  [
    ({"params": {"Dense_0": {"kernel": 0.0}}}, roles.INPUT_FIRST),
    ({"linear": {"w": 0.0}}, roles.INPUT_FIRST),
    ({"weights": 0.0}, roles.INPUT_FIRST),
    ({"params": {"Embed_0": {"embedding": 0.0}}}, roles.TABLE),
    ({"embed": {"embeddings": 0.0}}, roles.TABLE),
    ({"pos_embedding": 0.0}, roles.TABLE),
    ({"positions": 0.0}, roles.TABLE),
    ({"decomposition": 0.0}, roles.INPUT_FIRST),
    # A layer of that name is a layer.
    ({"patch_embed": {"kernel": 0.0}}, roles.INPUT_FIRST),
    ({"embed": (0.0,)}, roles.TABLE),
    ({"layer": {"weight": 0.0}}, roles.OUTPUT_FIRST),
    ({"cell": {"weight_ih": 0.0}}, roles.OUTPUT_FIRST),
    ([0.0], roles.INPUT_FIRST),
    (0.0, roles.INPUT_FIRST),
    ({3: 0.0}, roles.INPUT_FIRST),
  ],
)
def test_names_tell_roles(tree, role):
  assert roles.roles(tree) == [role]


def test_equinox_models_have_their_outputs_first():
  eqx = pytest.importorskip("equinox")
  key = jax.random.key(0)
  model = (eqx.nn.MLP(3, 2, 8, 1, key=key), eqx.nn.Conv2d(1, 2, 3, key=key))
  found = {
    x.shape: role
    for x, role in zip(
      jax.tree.leaves(eqx.filter(model, eqx.is_array)),
      roles.roles(eqx.filter(model, eqx.is_array)),
      strict=True,
    )
  }
  for shape in ((8, 3), (2, 8), (2, 1, 3, 3)):
    assert found[shape] == roles.OUTPUT_FIRST
  assert geometry.fan_in(TensorInfo((2, 1, 3, 3), roles.OUTPUT_FIRST)) == 9


def test_flax_modules_have_tables_and_kernels():
  nnx = pytest.importorskip("flax.nnx")
  model = nnx.Sequential(
    nnx.Embed(5, 4, rngs=nnx.Rngs(0)), nnx.Linear(4, 3, rngs=nnx.Rngs(0))
  )
  state = nnx.state(model, nnx.Param)
  found = dict(
    zip(
      [x.shape for x in jax.tree.leaves(state)],
      roles.roles(state),
      strict=True,
    )
  )
  assert found[(5, 4)] == roles.TABLE
  assert found[(4, 3)] == roles.INPUT_FIRST


SHAPES = {"matrix": (40, 3), "stack": (2, 6, 5), "kernel": (3, 3, 4, 8)}


def turned(x):
  """The same tensor with its outputs first."""
  return np.moveaxis(x, -1, 0 if x.ndim != 3 else 1)


def last_update(name, tree, grads, **changes):
  config = flt_lopt.make_variant(name, **changes)
  lopt = flt_lopt.LearnedOptimizer(config)
  theta = jax.tree.map(
    lambda x: x + 0.05 * jax.random.normal(jax.random.key(1), x.shape),
    lopt.init(jax.random.key(0)),
  )
  tx = lopt.transform(theta, num_steps=20)

  found = variants.raw_updates(tx, grads, tree)
  return jax.tree.map(lambda x: np.asarray(x[-1]), found)


@pytest.mark.parametrize("name", ["normalized", "orthogonal"])
def test_a_turned_matrix_moves_as_the_matrix_does(name):
  rng = np.random.default_rng(0)
  params = {k: {"w": np.float32(rng.normal(size=s))} for k, s in SHAPES.items()}
  grads = [
    {k: {"w": np.float32(rng.normal(size=s))} for k, s in SHAPES.items()}
    for _ in range(6)
  ]

  def turn(tree):
    return {k: {"weight": turned(x["w"])} for k, x in tree.items()}

  def stack(trees):
    return jax.tree.map(lambda *xs: jnp.stack(xs), *trees)

  straight = last_update(name, params, stack(grads))
  other = last_update(name, turn(params), stack(map(turn, grads)))
  for key, x in turn(straight).items():
    found = other[key]["weight"]
    size = np.abs(found).max()
    np.testing.assert_allclose(found, x["weight"], atol=2e-3 * size)
    # Turning alone is not what makes them equal.
    wrong = last_update(
      name,
      {"w": turn(params)[key]["weight"]},
      {"w": stack(map(turn, grads))[key]["weight"]},
    )["w"]
    assert not np.allclose(wrong, found, atol=2e-2 * size), key


@pytest.mark.parametrize("name", ["normalized", "orthogonal"])
def test_tables_move_as_a_vector_of_all_their_rows(name):
  rng = np.random.default_rng(0)
  table = np.float32(rng.normal(size=(7, 5)))
  grads = np.float32(rng.normal(size=(6, 7, 5)))
  # A controller knows that a vector is longer.
  table_moved, vector_moved, matrix_moved = (
    last_update(
      name,
      {key: table.reshape(shape)},
      {key: grads.reshape(6, *shape)},
      controller="off",
    )[key].reshape(7, 5)
    for key, shape in (("embedding", (7, 5)), ("b", (35,)), ("w", (7, 5)))
  )
  np.testing.assert_allclose(table_moved, vector_moved, rtol=1e-5)
  assert not np.allclose(table_moved, matrix_moved, rtol=0.1)


def test_embeddings_are_no_longer_short_of_steps():
  """Where only some rows have gradients, a row's step is Adam's."""
  lopt = flt_lopt.LearnedOptimizer(flt_lopt.make_variant("normalized"))
  tx = lopt.transform(lopt.init(jax.random.key(0)))
  rate = lopt.config.init_learning_rate / 101
  gradient = jnp.zeros((1000, 4)).at[3].set(1.0)
  for name, least, most in (("embedding", 0.9, 1.1), ("w", 0.0, 0.3)):
    params = {name: jnp.ones((1000, 4))}
    updates, _ = tx.update({name: gradient}, tx.init(params), params)
    moved = float(jnp.abs(updates[name][3]).max()) / rate
    assert least <= moved <= most
