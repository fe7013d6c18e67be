"""What names tell of tensors, and what follows from it."""

import jax
import jax.numpy as jnp
import numpy as np
import optimizer_variants as variants
import pytest

import flt_lopt
from flt_lopt import geometry, layout, roles
from flt_lopt.layout import TensorInfo


@pytest.mark.parametrize(
  ("tree", "role"),
  [
    ({"params": {"Dense_0": {"kernel": 0.0}}}, roles.INPUT_FIRST),
    ({"linear": {"w": 0.0}}, roles.INPUT_FIRST),
    ({"weights": 0.0}, roles.INPUT_FIRST),
    ({"params": {"Embed_0": {"embedding": 0.0}}}, roles.ENTRIES),
    ({"embed": {"embeddings": 0.0}}, roles.ENTRIES),
    ({"pos_embedding": 0.0}, roles.ENTRIES),
    ({"positions": 0.0}, roles.ENTRIES),
    ({"decomposition": 0.0}, roles.INPUT_FIRST),
    # A layer of that name is a layer.
    ({"patch_embed": {"kernel": 0.0}}, roles.INPUT_FIRST),
    ({"embed": (0.0,)}, roles.ENTRIES),
    ({"layer": {"weight": 0.0}}, roles.OUTPUT_FIRST),
    ({"cell": {"weight_ih": 0.0}}, roles.OUTPUT_FIRST),
    ({"tok_emb": 0.0}, roles.ENTRIES),
    ({"posEmb": 0.0}, roles.ENTRIES),
    ({"wte": {"weight": 0.0}}, roles.ENTRIES),
    ({"ember": 0.0}, roles.INPUT_FIRST),
    ({"norm": {"scale": 0.0}}, roles.ENTRIES),
    ({"bias_ih": 0.0}, roles.ENTRIES),
    ({"in_proj_bias": 0.0}, roles.ENTRIES),
    ({"b": 0.0}, roles.INPUT_FIRST),
    ({"bias_w": 0.0}, roles.INPUT_FIRST),
    ({"out": {"kernel": 0.0}}, roles.INPUT_FIRST),
    ([0.0], roles.INPUT_FIRST),
    (0.0, roles.INPUT_FIRST),
    ({3: 0.0}, roles.INPUT_FIRST),
  ],
)
def test_names_tell_roles(tree, role):
  assert roles.roles(tree) == [role]


def of_shapes(tree):
  return jax.tree.map(
    lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
    tree,
    is_leaf=lambda x: isinstance(x, tuple),
  )


def test_what_stands_beside_a_tensor_counts():
  # A layer has a bias where an embedding has none, and matrices have names too.
  tree = {
    "embed": {"bias": (3,), "weight": (3, 3)},
    "linear": {"b": (5, 3), "w": (5, 3, 3)},
    "low_rank": {"b": (2, 5), "w": (5, 5)},
    "patch_embed": {"weight": (3, 3)},
    "position_mlp": [{"weight": (3, 3)}],
  }
  assert roles.named(of_shapes(tree)) == {
    "embed": {"bias": roles.ENTRIES, "weight": roles.OUTPUT_FIRST},
    "linear": {"b": roles.ENTRIES, "w": roles.INPUT_FIRST},
    "low_rank": {"b": roles.INPUT_FIRST, "w": roles.INPUT_FIRST},
    "patch_embed": {"weight": roles.OUTPUT_FIRST},
    "position_mlp": [{"weight": roles.OUTPUT_FIRST}],
  }


def test_attention_of_stacked_layers_without_heads_is_a_stack():
  names = ("query", "key", "value", "out")
  part = {name: {"kernel": (6, 9, 9)} for name in names}
  assert set(roles.roles(of_shapes(part))) == {roles.INPUT_FIRST}


@pytest.mark.parametrize("layers", [(), (3,)])
def test_attention_of_flax_has_one_matrix_for_all_heads(layers):
  nn = pytest.importorskip("flax.linen")
  attention = nn.MultiHeadDotProductAttention(num_heads=4, qkv_features=8)
  params = jax.eval_shape(
    attention.init, jax.random.key(0), jnp.zeros((1, 5, 16))
  )["params"]
  stacked = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct((*layers, *x.shape), x.dtype), params
  )
  found = jax.tree.unflatten(jax.tree.structure(stacked), layout.infos(stacked))
  for name in ("query", "key", "value"):
    assert geometry.fan_in(found[name]["kernel"]) == 16
    assert not geometry.is_matrix(found[name]["bias"])
  assert geometry.fan_in(found["out"]["kernel"]) == 8
  matrices = np.prod(layers, dtype=int)
  found = geometry._sizes(found["out"]["kernel"])
  assert found == (matrices, 8, 16)


def test_equinox_models_have_their_outputs_first():
  eqx = pytest.importorskip("equinox")
  key = jax.random.key(0)
  model = {
    "layers": (
      eqx.nn.MLP(3, 2, 8, 1, key=key),
      eqx.nn.Conv2d(1, 2, 3, key=key),
    ),
    "embedding": eqx.nn.Embedding(7, 5, key=key),
  }
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
  for shape in ((2, 1, 1), (7, 5)):
    assert found[shape] == roles.ENTRIES
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
  assert found[(5, 4)] == roles.ENTRIES
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


def moved(tree, **options):
  """Returns the first updates where gradients are normal."""
  rng = np.random.default_rng(0)
  grads = jax.tree.map(lambda x: np.float32(rng.normal(size=x.shape)), tree)
  tx = flt_lopt.flt(20, **options)
  return jax.jit(tx.update)(grads, tx.init(tree), tree)[0]


def test_roles_can_be_given():
  params = {"codebook": np.ones((4, 40), np.float32), "w": np.ones((4, 40))}
  params = jax.tree.map(np.float32, params)

  def ours(params):
    return roles.named(params, {"codebook": roles.ENTRIES})

  by_name = moved(params)
  by_function = moved(params, roles=ours)
  by_tree = moved(params, roles={"codebook": roles.ENTRIES, "w": "input first"})
  named = moved({"embed": params["codebook"], "w": params["w"]})
  np.testing.assert_array_equal(by_function["codebook"], named["embed"])
  for name, x in by_function.items():
    np.testing.assert_array_equal(by_tree[name], x)
  assert np.any(by_name["codebook"] != named["embed"])
  np.testing.assert_array_equal(by_function["w"], named["w"])
  # What is no matrix doesn't count as one: of two, each moves by less, at the
  # bound of what is learned by half.
  ratio = by_name["w"] / named["w"]
  np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-5)
  assert 0.5 <= ratio[0, 0] < 1
  # One leaf may stand for all.
  everything = moved(params, roles=roles.ENTRIES)
  np.testing.assert_array_equal(everything["codebook"], named["embed"])
  with pytest.raises(ValueError, match="'table' is not one of"):
    moved(params, roles="table")
  with pytest.raises(ValueError, match="roles must be a tree like"):
    moved(params, roles={"w": roles.ENTRIES})
  with pytest.raises(ValueError, match="is called codbook"):
    roles.named(params, {"codbook": roles.ENTRIES})


def test_a_part_may_be_given_a_role():
  tree = {"vq": {"code": [0.0, 0.0]}, "w": 0.0}
  found = roles.named(tree, {"vq": roles.ENTRIES})
  assert found == {"vq": {"code": [roles.ENTRIES] * 2}, "w": roles.INPUT_FIRST}
