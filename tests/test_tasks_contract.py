"""What every registered problem must do; to register is to be tested.

Shapes, dtypes and the lack of work at construction are checked abstractly
for all problems; training is checked for a few cheap ones always, and for
all under the mark `slow`.
"""

import inspect
import re
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tasks import cost, registry
from tasks.families.base import ZooFamily

_NUM_STEPS = 200
_KEY = jax.random.key(0)
# Cheap, and of different kinds: classes, tables, equations, images, noise.
_ALWAYS = (
  "cart_pole_16",
  "matrix_completion_32",
  "mlp_digits_16_tanh",
  "pinn_poisson_32x2",
  "rosenbrock",
  "siren_photographs_32x2",
  "softmax_iris",
  "vae_digits_48_8",
)
_TRAINED = [
  pytest.param(name, marks=() if name in _ALWAYS else pytest.mark.slow)
  for name in registry.list_problems()
]


def _half(tree):
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), tree
  )


@pytest.mark.parametrize("name", registry.list_problems())
def test_shapes_and_dtypes(name):
  """Under jit and vmap over members and keys, in float32 and bfloat16."""
  begin = time.perf_counter()
  family = registry.family(name)
  registry.task(name)
  assert time.perf_counter() - begin < 0.5, "building must not compute"
  assert family.name == name
  keys = jax.eval_shape(lambda key: jax.random.split(key, 3), _KEY)
  cfgs = jax.eval_shape(jax.vmap(family.sample), keys)
  init = lambda cfg, key: family.task_fn(cfg).init(key)  # noqa: E731
  loss = lambda cfg, params, key, data: family.task_fn(cfg).loss(  # noqa: E731
    params, key, data
  )
  params = jax.eval_shape(jax.vmap(init), cfgs, keys)
  for leaf in jax.tree.leaves(params):
    assert leaf.shape[0] == 3
    assert leaf.dtype == jnp.float32
  for some_params in (params, _half(params)):
    value = jax.eval_shape(
      jax.vmap(lambda c, p, k: loss(c, p, k, None)), cfgs, some_params, keys
    )
    assert value.shape == (3,)
    assert value.dtype == jnp.float32
  for split in ("valid", "test"):
    value = jax.eval_shape(
      jax.vmap(
        lambda c, p, k, split=split: loss(
          c, p, k, family.task_fn(c).sample_batch(k, split)
        )
      ),
      cfgs,
      params,
      keys,
    )
    assert value.shape == (3,)


@pytest.mark.parametrize("name", registry.list_problems())
def test_parameters_are_documented(name):
  """A family's documentation names its parameters, and gives a source."""
  family = registry.family(name)
  if not isinstance(family, ZooFamily):
    return  # A mixture, of families that are documented themselves.
  classes = [c for c in type(family).__mro__ if issubclass(c, ZooFamily)]
  text = " ".join(inspect.getdoc(c) or "" for c in classes)
  init = lambda key: family.sample_task(key).init(key)  # noqa: E731
  for key in jax.eval_shape(init, _KEY):
    stem = key.rstrip("0123456789")
    assert re.search(rf"`{stem}\d*`", text), f"{key} is not documented"
  source = inspect.getdoc(inspect.getmodule(type(family)))
  assert re.search(r"\b(18|19|20)\d\d\b", source), "no year of a source"


def _train(family, key):
  """Losses of Adam on one member, its start, and losses in bfloat16."""
  task = family.task_fn(family.sample(key))
  optimizer = optax.adam(1e-2)

  def step(carry, key):
    params, state = carry
    loss, grad = jax.value_and_grad(task.loss)(params, key, None)
    updates, state = optimizer.update(grad, state)
    return (optax.apply_updates(params, updates), state), (
      loss,
      optax.tree.norm(grad),
    )

  start = task.init(key)
  keys = jax.random.split(key, _NUM_STEPS)
  (end, _), (losses, norms) = jax.lax.scan(
    step, (start, optimizer.init(start)), keys
  )
  half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), start)
  return {
    "loss": losses,
    "norm": norms,
    "half": task.loss(half, keys[0], None),
    "valid": task.loss(end, key, task.sample_batch(key, "valid")),
  }


@pytest.mark.parametrize("name", _TRAINED)
def test_adam_makes_progress_from_a_finite_start(name):
  """Two members under vmap: the mean loss falls by at least 5 %."""
  family = registry.family(name)
  train = jax.jit(jax.vmap(lambda key: _train(family, key)))
  keys = jax.random.split(_KEY, 2)
  out = jax.tree.map(np.asarray, train(keys))
  for field, values in out.items():
    assert np.isfinite(values).all(), field
  jax.tree.map(np.testing.assert_array_equal, out, train(keys))
  first, last = out["loss"][:, :10].mean(), out["loss"][:, -10:].mean()
  assert last < first - 0.05 * abs(first)
  # Eight bits of mantissa, through several layers.
  np.testing.assert_allclose(
    out["half"], out["loss"][:, 0], rtol=0.1, atol=0.02
  )


def test_operations_are_counted_by_size_and_loop():
  a, b = jnp.ones((3, 4)), jnp.ones((4, 5))
  assert cost.count_flops(jnp.matmul, a, b) == 2 * 3 * 4 * 5
  looped = lambda x: jax.lax.scan(lambda c, _: (c @ b @ b.T, None), x, None, 7)  # noqa: E731
  assert cost.count_flops(looped, a) == 7 * 2 * (2 * 3 * 4 * 5)
  image, kernel = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 6))
  convolved = lambda x, w: jax.lax.conv_general_dilated(  # noqa: E731
    x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  expected = 2 * (2 * 8 * 8 * 6) * (3 * 3 * 3)
  assert cost.count_flops(convolved, image, kernel) == expected


def test_a_step_of_the_mlp_costs_what_its_products_cost():
  task = registry.task("mlp_digits_48")
  assert cost.num_parameters(task) == 64 * 48 + 48 + 48 * 10 + 10
  forward = 2 * 64 * (64 * 48 + 48 * 10)
  backward = forward + 2 * 64 * 48 * 10  # No gradient for the input.
  products = forward + backward
  assert products < cost.flops_per_step(task) < 1.1 * products
