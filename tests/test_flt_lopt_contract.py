"""Every learned optimizer is an optax citizen: what optax's users rely on.

All variants go through all points; a variant is made of registry names, so
to register a memory is to be tested. Weights are untrained but for noise,
so that every part of the optimizer is at work.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import flt_lopt
from flt_lopt import memory

VARIANTS = {
  **{name: flt_lopt.OptimizerConfig(memory=name) for name in memory.MEMORIES},
  "six floats": flt_lopt.OptimizerConfig(memory_floats=6),
  "no controller": flt_lopt.OptimizerConfig(
    memory_floats=2, controller="off", epsilon_mode="absolute"
  ),
}
PARAMS = {
  "a": np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(3, 4),
  "b": np.ones(4, np.float32),
}
GRADS = jax.tree.map(lambda x: 0.1 * x + 0.02, PARAMS)

variants = pytest.mark.parametrize("name", VARIANTS)


@functools.cache
def _theta(name):
  theta = flt_lopt.LearnedOptimizer(VARIANTS[name]).init(jax.random.key(0))
  flat, unravel = ravel_pytree(theta)
  noise = 0.05 * jax.random.normal(jax.random.key(1), flat.shape)
  return unravel(flat + noise)


def make(name, **options):
  options = {"num_steps": 20} | options
  lopt = flt_lopt.LearnedOptimizer(VARIANTS[name])
  return lopt.transform(_theta(name), **options)


def steps(tx, params, grads, count=2, **extra):
  """Returns the parameters after some jitted steps, and the state."""
  state = tx.init(params)
  update = jax.jit(tx.update)
  for _ in range(count):
    updates, state = update(grads, state, params, **extra)
    params = optax.apply_updates(params, updates)
  return params, state


def ones(tree):
  return jax.tree.map(lambda x: jnp.full(x.shape, 0.5, x.dtype), tree)


@variants
def test_jit_agrees_with_eager_and_lowers_the_loss(name):
  tx = make(name)
  assert isinstance(tx, optax.GradientTransformationExtraArgs)
  state = tx.init(PARAMS)
  eager, eager_state = tx.update(GRADS, state, PARAMS)
  jitted, jitted_state = jax.jit(tx.update)(GRADS, state, PARAMS)
  chex.assert_trees_all_close(eager, jitted, rtol=1e-5, atol=1e-9)
  chex.assert_trees_all_close(eager_state, jitted_state, rtol=1e-4, atol=1e-6)

  def loss(params):
    return sum(jnp.sum(jnp.square(x - 0.3)) for x in params.values())

  tx = make(name, num_steps=50, learning_rate=10.0)
  params, state = PARAMS, tx.init(PARAMS)

  @jax.jit
  def step(carry, _):
    params, state = carry
    updates, state = tx.update(jax.grad(loss)(params), state, params)
    return (optax.apply_updates(params, updates), state), loss(params)

  (params, _), losses = jax.lax.scan(step, (params, state), None, length=50)
  assert losses[-1] < 0.7 * losses[0]


@variants
def test_unknown_extra_arguments_are_ignored(name):
  tx = make(name)
  alone = tx.update(GRADS, tx.init(PARAMS), PARAMS)[0]
  extra = tx.update(GRADS, tx.init(PARAMS), PARAMS, value=1.0, other=None)[0]
  chex.assert_trees_all_equal(alone, extra)
  chain = optax.chain(optax.clip_by_global_norm(1e9), tx)
  in_chain = chain.update(GRADS, chain.init(PARAMS), PARAMS, value=1.0)[0]
  chex.assert_trees_all_close(alone, in_chain, rtol=1e-6)


@variants
def test_missing_params_are_refused_by_name(name):
  tx = make(name)
  with pytest.raises(ValueError, match="params"):
    tx.update(GRADS, tx.init(PARAMS))


@variants
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_updates_have_the_dtype_of_parameters(name, dtype):
  params = jax.tree.map(lambda x: jnp.asarray(x, dtype), PARAMS)
  grads = jax.tree.map(lambda x: jnp.asarray(x, dtype), GRADS)
  tx = make(name)
  updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)
  assert all(u.dtype == dtype for u in jax.tree.leaves(updates))
  assert all(jnp.all(jnp.isfinite(u)) for u in jax.tree.leaves(updates))


@variants
def test_state_types_hold_under_scan_and_cond(name):
  tx = make(name)
  state = tx.init(PARAMS)
  _, after = jax.eval_shape(tx.update, GRADS, state, PARAMS)
  before = jax.eval_shape(lambda x: x, state)
  chex.assert_trees_all_equal_shapes_and_dtypes(before, after)
  weak = [getattr(x, "weak_type", False) for x in jax.tree.leaves(after)]
  assert not any(weak)

  @jax.jit
  def run(state):
    def body(carry, step):
      params, state = carry
      updates, state = jax.lax.cond(
        step % 2 == 0,
        lambda: tx.update(GRADS, state, params),
        lambda: (jax.tree.map(jnp.zeros_like, params), state),
      )
      return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(body, (PARAMS, state), jnp.arange(4))[0]

  params, state = run(state)
  assert state.count == 2 and np.any(params["a"] != PARAMS["a"])


@variants
def test_vmap_over_parameters(name):
  tx = make(name)
  stacked = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), PARAMS)
  grads = jax.tree.map(lambda x: jnp.stack([x, -x]), GRADS)
  states = jax.vmap(tx.init)(stacked)
  many, _ = jax.jit(jax.vmap(tx.update))(grads, states, stacked)
  update = jax.jit(tx.update)
  for i in range(2):
    got, grad, params = jax.tree.map(
      lambda x, i=i: x[i], (many, grads, stacked)
    )
    single, _ = update(grad, tx.init(params), params)
    chex.assert_trees_all_close(got, single, rtol=1e-4, atol=1e-8)


@variants
def test_trees_of_every_shape(name):
  tx = make(name)
  params = {
    "scalar": jnp.ones([]),
    "three": jnp.ones((2, 3, 4)),
    "four": jnp.ones((2, 1, 3, 2)),
    "empty": jnp.ones((0, 5)),
    "none": None,
    "nested": [jnp.ones(3), (jnp.ones((2, 2)), None)],
  }
  after, _ = steps(tx, params, ones(params))
  chex.assert_trees_all_equal_shapes_and_dtypes(after, params)
  for x in jax.tree.leaves(after):
    assert np.all(np.isfinite(x)) and np.all(np.asarray(x) != 1.0)
  for empty in ({}, (), None):
    updates, state = tx.update(empty, tx.init(empty), empty)
    assert updates == empty and state.count == 1


@variants
def test_masked_and_partition(name):
  tx = make(name)
  masked = optax.masked(tx, {"a": True, "b": False})
  updates, _ = masked.update(GRADS, masked.init(PARAMS), PARAMS)
  np.testing.assert_array_equal(updates["b"], GRADS["b"])
  split = optax.partition(
    {"flt": tx, "sgd": optax.sgd(0.1)}, {"a": "flt", "b": "sgd"}
  )
  updates, _ = split.update(GRADS, split.init(PARAMS), PARAMS)
  np.testing.assert_allclose(updates["b"], -0.1 * GRADS["b"], rtol=1e-6)
  only = {"a": PARAMS["a"]}
  alone, _ = tx.update({"a": GRADS["a"]}, tx.init(only), only)
  np.testing.assert_allclose(updates["a"], alone["a"], rtol=1e-5)


@variants
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_multi_steps(name, dtype):
  params = jax.tree.map(lambda x: jnp.asarray(x, dtype), PARAMS)
  grads = jax.tree.map(lambda x: jnp.asarray(x, dtype), GRADS)
  many = optax.MultiSteps(make(name), every_k_schedule=2)
  state = many.init(params)
  first, state = many.update(grads, state, params)
  second, state = many.update(grads, state, params)
  assert all(np.all(x == 0) for x in jax.tree.leaves(first))
  tx = make(name)
  want, _ = tx.update(grads, tx.init(params), params)
  chex.assert_trees_all_close(second, want, rtol=2e-2)


@variants
def test_apply_if_finite_and_conditionally_transform(name):
  tx = optax.apply_if_finite(make(name), 3)
  bad = {**GRADS, "b": GRADS["b"] * np.nan}
  updates, state = tx.update(bad, tx.init(PARAMS), PARAMS)
  assert all(np.all(x == 0) for x in jax.tree.leaves(updates))
  updates, _ = tx.update(GRADS, state, PARAMS)
  assert np.all(np.isfinite(updates["b"]))
  tx = optax.conditionally_transform(
    make(name), lambda count, *a, **k: count < 1
  )
  state = tx.init(PARAMS)
  first, state = tx.update(GRADS, state, PARAMS)
  second, _ = tx.update(GRADS, state, PARAMS)
  assert np.any(first["a"] != GRADS["a"])
  np.testing.assert_array_equal(second["a"], GRADS["a"])


@variants
def test_inject_hyperparams_also_of_the_horizon(name):
  def factory(learning_rate, num_steps, weight_decay):
    return make(
      name,
      learning_rate=learning_rate,
      num_steps=num_steps,
      weight_decay=weight_decay,
    )

  tx = optax.inject_hyperparams(factory)(
    learning_rate=0.5, num_steps=20, weight_decay=0.1
  )
  state = tx.init(PARAMS)
  update = jax.jit(tx.update)
  injected, new_state = update(GRADS, state, PARAMS)
  plain = make(name, learning_rate=0.5, weight_decay=0.1)
  want, _ = plain.update(GRADS, plain.init(PARAMS), PARAMS)
  chex.assert_trees_all_close(injected, want, rtol=1e-4, atol=1e-9)
  new_state.hyperparams["num_steps"] = jnp.asarray(500)
  changed, _ = update(GRADS, new_state, PARAMS)
  same, _ = update(GRADS, update(GRADS, state, PARAMS)[1], PARAMS)
  assert np.any(np.asarray(changed["a"]) != np.asarray(same["a"]))


@variants
def test_schedules_as_learning_rate(name):
  tx = make(name, learning_rate=optax.piecewise_constant_schedule(1.0, {1: 0}))
  state = tx.init(PARAMS)
  first, state = tx.update(GRADS, state, PARAMS)
  second, _ = tx.update(GRADS, state, PARAMS)
  assert np.any(first["a"] != 0) and np.all(second["a"] == 0)


@variants
def test_map_params_and_count(name):
  tx = make(name)
  state = tx.init(PARAMS)
  assert optax.tree.get(state, "count") == 0
  tagged = optax.tree.map_params(
    tx, lambda x: "param", state, transform_non_params=lambda x: "other"
  )
  floats = VARIANTS[name].memory_floats
  tags = jax.tree.leaves(tagged)
  assert tags.count("param") == floats * len(PARAMS)
  assert set(jax.tree.leaves(tagged.modes)) == {"param"}


@variants
def test_init_needs_no_values(name):
  tx = make(name)
  concrete = tx.init(PARAMS)
  abstract = jax.eval_shape(tx.init, PARAMS)
  chex.assert_trees_all_equal_shapes_and_dtypes(concrete, abstract)
  structs = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), PARAMS
  )
  from_structs = tx.init(structs)
  chex.assert_trees_all_equal_shapes_and_dtypes(concrete, from_structs)


@variants
def test_explicit_sharding_is_kept(name):
  if len(jax.devices()) < 4:
    pytest.skip("needs 4 devices")
  mesh = jax.make_mesh(
    (4,),
    ("x",),
    axis_types=(jax.sharding.AxisType.Explicit,),
    devices=jax.devices()[:4],
  )
  with jax.set_mesh(mesh):
    spec = jax.sharding.PartitionSpec("x")
    sharding = jax.sharding.NamedSharding(mesh, spec)
    params = {"a": jnp.arange(24.0).reshape(8, 3), "b": jnp.ones(4)}
    grads = jax.tree.map(lambda x: 0.1 * x + 0.1, params)
    params, grads = jax.device_put((params, grads), sharding)
    tx = make(name)
    state = tx.init(params)
    for leaf in jax.tree.leaves(state.modes):
      assert leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
    update = jax.jit(tx.update)
    sharded, new_state = update(grads, state, params)
    assert jax.typeof(sharded["a"]).sharding.spec[0] == "x"
    before, after = (
      [jax.typeof(x) for x in jax.tree.leaves(s)] for s in (state, new_state)
    )
    assert before == after
    sharded = jax.device_get(sharded)
  one = jax.tree.map(np.asarray, jax.device_get((grads, params)))
  single, _ = tx.update(one[0], tx.init(one[1]), one[1])
  chex.assert_trees_all_close(sharded, single, rtol=1e-5, atol=1e-8)


@variants
def test_strict_promotion(name):
  tx = make(name, weight_decay=0.1)
  params = {**PARAMS, "c": jnp.ones([], jnp.bfloat16)}
  with (
    jax.numpy_dtype_promotion("strict"),
    jax.numpy_rank_promotion("raise"),
  ):
    updates, _ = jax.jit(tx.update)(ones(params), tx.init(params), params)
  assert updates["c"].dtype == jnp.bfloat16


@variants
def test_no_retrace_on_the_second_call(name):
  tx = make(name)
  traces = 0

  @jax.jit
  def update(grads, state, params):
    nonlocal traces
    traces += 1
    return tx.update(grads, state, params)

  params = jax.tree.map(jnp.asarray, PARAMS)
  grads = jax.tree.map(jnp.asarray, GRADS)
  state = tx.init(params)
  for _ in range(3):
    _, state = update(grads, state, params)
  assert traces == 1


@variants
def test_differentiable_in_learning_rate_and_theta(name):
  lopt = flt_lopt.LearnedOptimizer(VARIANTS[name])

  def final(rate, theta):
    tx = lopt.transform(theta, num_steps=5, learning_rate=rate)

    def body(carry, _):
      params, state = carry
      updates, state = tx.update(params, state, params)
      return (optax.apply_updates(params, updates), state), None

    carry = (PARAMS, tx.init(PARAMS))
    (params, _), _ = jax.lax.scan(body, carry, None, length=5)
    return sum(jnp.sum(x**2) for x in params.values())

  grads = jax.jit(jax.grad(final, argnums=(0, 1)))(1.0, _theta(name))
  assert grads[0] < 0  # A longer step lowers the loss.
  flat = ravel_pytree(grads[1])[0]
  assert jnp.all(jnp.isfinite(flat)) and jnp.any(flat != 0)


@variants
def test_complex_and_integer_parameters_are_refused(name):
  for dtype in (jnp.complex64, jnp.int32):
    with pytest.raises(ValueError, match="dtype"):
      make(name).init({"z": jnp.ones(3, dtype)})


@variants
def test_flax_nnx_optimizer(name):
  nnx = pytest.importorskip("flax.nnx")
  model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
  optimizer = nnx.Optimizer(model, make(name), wrt=nnx.Param)
  before = np.asarray(model.kernel[...])

  @nnx.jit
  def step(model, optimizer):
    grads = nnx.grad(lambda m: jnp.sum(m(jnp.ones((4, 3))) ** 2))(model)
    optimizer.update(model, grads)

  step(model, optimizer)
  step(model, optimizer)
  assert np.all(np.isfinite(model.kernel[...]))
  assert np.any(np.asarray(model.kernel[...]) != before)


@variants
def test_equinox_filtered_parameters(name):
  eqx = pytest.importorskip("equinox")
  model = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
  tx = make(name)
  state = tx.init(eqx.filter(model, eqx.is_inexact_array))

  @eqx.filter_jit
  def step(model, state):
    grads = eqx.filter_grad(lambda m: jnp.sum(m(jnp.ones(3)) ** 2))(model)
    updates, state = tx.update(
      grads, state, eqx.filter(model, eqx.is_inexact_array)
    )
    return eqx.apply_updates(model, updates), state

  after, state = step(model, state)
  after, state = step(after, state)
  assert np.any(after.layers[0].weight != model.layers[0].weight)
