"""One train step is the same step on one device and on four.

Parameters of a small MLP lie on the devices as in fully sharded data
parallelism (each cut along its largest axis), as in tensor parallelism (the
first product cut by columns, the second by rows), or whole with the batch
cut. The state is made and updated with no word on where it should lie.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimizer_variants as variants
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from optimizer_variants import few_variants

DEVICES = 4
P = PartitionSpec
SHAPES = {
  "first": {"b": (16,), "w": (8, 16)},
  "second": {"b": (4,), "scale": (), "w": (16, 4)},
}
#: Where every parameter and the batch lie.
LAYOUTS = {
  "fully sharded": (
    {
      "first": {"b": P("x"), "w": P(None, "x")},
      "second": {"b": P("x"), "scale": P(), "w": P("x", None)},
    },
    P("x"),
  ),
  "tensor parallel": (
    {
      "first": {"b": P("x"), "w": P(None, "x")},
      "second": {"b": P(), "scale": P(), "w": P("x", None)},
    },
    P(),
  ),
  "data parallel": (
    {
      "first": {"b": P(), "w": P()},
      "second": {"b": P(), "scale": P(), "w": P()},
    },
    P("x"),
  ),
}


def loss(params, batch):
  x, y = batch
  hidden = jnp.tanh(x @ params["first"]["w"] + params["first"]["b"])
  out = hidden @ params["second"]["w"] + params["second"]["b"]
  return jnp.mean((params["second"]["scale"] * out - y) ** 2)


@functools.cache
def start():
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda s: np.float32(0.5 + 0.3 * rng.normal(size=s)),
    SHAPES,
    is_leaf=lambda x: isinstance(x, tuple),
  )
  batch = tuple(np.float32(rng.normal(size=(8, n))) for n in (8, 4))
  return params, batch


@functools.cache
def train_step(name):
  """Returns the jitted train step of a variant."""
  tx = variants.make(name, weight_decay=0.1)

  @jax.jit
  def step(params, state, batch):
    value, grads = jax.value_and_grad(loss)(params, batch)
    updates, state = tx.update(grads, state, params, value=value)
    return optax.apply_updates(params, updates), state, updates

  return tx, step


@functools.cache
def single(name):
  """Returns (updates, params) of two steps on one device."""
  tx, step = train_step(name)
  params, batch = start()
  state = tx.init(params)
  for _ in range(2):
    params, state, updates = step(params, state, batch)
  return jax.device_get((updates, params))


@few_variants
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_sharded_step_is_the_step_of_one_device(name, layout):
  if len(jax.devices()) < DEVICES:
    pytest.skip(f"needs {DEVICES} devices")
  mesh = jax.make_mesh(
    (DEVICES,),
    ("x",),
    axis_types=(AxisType.Auto,),
    devices=jax.devices()[:DEVICES],
  )
  specs, batch_spec = LAYOUTS[layout]
  shardings = jax.tree.map(functools.partial(NamedSharding, mesh), specs)
  host_params, host_batch = start()
  params = jax.device_put(host_params, shardings)
  batch = jax.device_put(host_batch, NamedSharding(mesh, batch_spec))
  tx, step = train_step(name)
  state = tx.init(params)
  lie_like_parameters(tx, state, params, shardings)
  for _ in range(2):
    params, state, updates = step(params, state, batch)
  assert updates["first"]["w"].sharding.device_set == set(mesh.devices.flat)
  # Updates forget the size of gradients, and so show their rounding more.
  for got, want, error in zip(
    (params, updates), reversed(single(name)), (1e-6, 3e-6), strict=True
  ):
    assert variants.relative_difference(jax.device_get(got), want) < error
  lie_like_parameters(tx, state, params, shardings)


def lie_like_parameters(tx, state, params, shardings):
  """Asserts that state leaves lie as their parameter does.

  Factors of a matrix lie as the axes that they keep.
  """
  seen = 0

  def check(leaf, param, sharding):
    nonlocal seen
    kept = [i for i, n in enumerate(param.shape) if n in leaf.shape]
    if len(kept) == leaf.ndim:
      seen += 1
      axes = (*sharding.spec, None, None)
      spec = P(*(axes[i] for i in kept))
      want = NamedSharding(sharding.mesh, spec)
      assert leaf.sharding.is_equivalent_to(want, leaf.ndim)
    return leaf

  optax.tree.map_params(tx, check, state, params, shardings)
  assert seen >= len(jax.tree.leaves(params))
