"""Every learned optimizer is an optax citizen: what jax's users rely on.

All variants go through all points, by registry. Weights are untrained but for
noise, so that every part of the optimizer is at work. Optax's own wrappers
and other libraries are in `test_flt_lopt_contract_wrappers`, checkpoints,
bad gradients and precision in `test_flt_lopt_contract_state`.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimizer_variants as variants
import pytest
from jax.flatten_util import ravel_pytree
from optimizer_variants import every_variant, few_variants

import flt_lopt

PARAMS = variants.parameters()
GRADS = jax.tree.map(lambda x: 0.1 * x + 0.02, PARAMS)


def steps(tx, params, grads, count=2, **extra):
  """Returns the parameters after some jitted steps, and the state."""
  state = tx.init(params)
  update = jax.jit(tx.update)
  for _ in range(count):
    updates, state = update(grads, state, params, **extra)
    params = optax.apply_updates(params, updates)
  return params, state


def halves(tree):
  return jax.tree.map(lambda x: jnp.full(x.shape, 0.5, x.dtype), tree)


@every_variant
def test_unknown_extra_arguments_are_ignored(name):
  tx = variants.make(name)
  assert isinstance(tx, optax.GradientTransformationExtraArgs)
  alone = tx.update(GRADS, tx.init(PARAMS), PARAMS)[0]
  extra = tx.update(GRADS, tx.init(PARAMS), PARAMS, other=None, loss=1.0)[0]
  chex.assert_trees_all_equal(alone, extra)
  chain = optax.chain(optax.clip_by_global_norm(1e9), tx)
  in_chain = chain.update(GRADS, chain.init(PARAMS), PARAMS, other=1.0)[0]
  chex.assert_trees_all_close(alone, in_chain, rtol=1e-6)


@every_variant
def test_missing_params_are_refused_by_name(name):
  tx = variants.make(name)
  with pytest.raises(ValueError, match="params"):
    tx.update(GRADS, tx.init(PARAMS))


@pytest.mark.parametrize(
  "gradient", [np.zeros((1, 4)), np.zeros((2, 4, 4)), np.zeros((4, 4), complex)]
)
def test_a_gradient_of_another_kind_is_refused_by_name(gradient):
  lopt = flt_lopt.LearnedOptimizer()
  tx = lopt.transform(lopt.init(jax.random.key(0)))
  params = {"w": np.zeros((4, 4), np.float32)}
  with pytest.raises(ValueError, match=r"gradient of params\['w'\] has shape"):
    tx.update({"w": gradient}, tx.init(params), params)


def test_weight_decay_may_be_a_schedule():
  lopt = flt_lopt.LearnedOptimizer()
  theta = lopt.init(jax.random.key(0))
  params = {"w": np.ones((3, 4), np.float32)}
  grads = {"w": np.full((3, 4), 0.1, np.float32)}

  def second(weight_decay):
    tx = lopt.transform(theta, weight_decay=weight_decay)
    _, state = tx.update(grads, tx.init(params), params)
    return tx.update(grads, state, params)[0]["w"]

  schedule = optax.linear_schedule(0.0, 0.5, 1)
  np.testing.assert_array_equal(second(schedule), second(0.5))
  assert not np.array_equal(second(schedule), second(0.0))


@pytest.mark.parametrize("steps", [0, -3, 2.5, np.nan])
def test_num_steps_of_any_kind_is_a_count(steps):
  lopt = flt_lopt.LearnedOptimizer()
  theta = lopt.init(jax.random.key(0))
  for given in (steps, jnp.asarray(steps)):
    with pytest.raises(ValueError, match="whole number of steps"):
      lopt.transform(theta, num_steps=given)
  lopt.transform(theta, num_steps=jnp.asarray(3))


@pytest.mark.parametrize(
  "steps", ["100", True, np.True_, 1e39, 10**10, [10], np.ones(1), print]
)
def test_what_is_no_count_of_steps_is_refused(steps):
  theta = variants.theta(variants.DEFAULT)
  with pytest.raises(ValueError, match="must be a whole number"):
    variants.family(variants.DEFAULT).transform(theta, num_steps=steps)


def test_without_parameters_there_is_nothing_to_be_missed():
  tx = variants.make(variants.DEFAULT)
  assert tx.update({}, tx.init({}))[0] == {}


def test_meta_parameters_of_another_configuration_are_refused():
  theta = flt_lopt.LearnedOptimizer(
    flt_lopt.make_variant("no_controller")
  ).init(jax.random.key(0))
  with pytest.raises(ValueError, match=r"controller/.* has shape none instead"):
    flt_lopt.flt(weights=(flt_lopt.OptimizerConfig(), theta))
  with pytest.raises(ValueError, match="direction/bias has shape"):
    wide = flt_lopt.make_variant("no_controller", hidden_units=5)
    flt_lopt.LearnedOptimizer(wide).transform(theta)


def test_huge_parameters_leave_the_controller_sound():
  """Their squares are infinite, and so are those of steps as long."""
  lopt = flt_lopt.LearnedOptimizer(flt_lopt.make_variant("normalized"))
  theta = lopt.init(jax.random.key(0))
  theta["step"] |= {"exponents": theta["step"]["exponents"].at[:, 0].set(1.0)}
  tx = lopt.transform(theta)
  params = {"w": np.full((4, 4), 1e20, np.float32)}
  state = tx.init(params)
  for _ in range(3):
    _, state = tx.update({"w": np.ones((4, 4), np.float32)}, state, params)
  assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(state))


def test_a_gradient_that_is_none_is_refused_by_name():
  tx = variants.make(variants.DEFAULT)
  with pytest.raises(ValueError, match=r"params\['k'\] is None.*give zeros"):
    tx.update({**GRADS, "k": None}, tx.init(PARAMS), PARAMS)
  # Without a parameter there is no gradient to miss.
  params, grads = {**PARAMS, "k": None}, {**GRADS, "k": None}
  updates, _ = tx.update(grads, tx.init(params), params)
  assert updates["k"] is None and np.all(updates["w"] != 0)


@every_variant
def test_complex_and_integer_parameters_are_refused(name):
  for dtype in (jnp.complex64, jnp.int32):
    with pytest.raises(ValueError, match="dtype"):
      variants.make(name).init({"z": jnp.ones(3, dtype)})


@every_variant
def test_map_params_and_count(name):
  tx = variants.make(name)
  state = tx.init(PARAMS)
  assert optax.tree.get(state, "count") == 0
  owners = optax.tree.map_params(
    tx,
    lambda leaf, owner: owner,
    state,
    {key: key for key in PARAMS},
    transform_non_params=lambda leaf: "nobody",
  )
  owners = jax.tree.leaves(owners)
  counts = {owners.count(key) for key in PARAMS}
  # All parameters have the same kind of state.
  assert len(counts) == 1


@few_variants
def test_a_parameter_may_be_a_python_number(name):
  tx = variants.make(name)
  params = {"s": 0.5, "w": jnp.ones((2, 3))}
  grads = {"s": 0.1, "w": jnp.ones((2, 3))}
  updates, _ = tx.update(grads, tx.init(params), params)
  assert updates["s"].shape == () and updates["s"] != 0


@every_variant
def test_init_needs_no_values(name):
  tx = variants.make(name)
  concrete = tx.init(PARAMS)
  abstract = jax.eval_shape(tx.init, PARAMS)
  chex.assert_trees_all_equal_shapes_and_dtypes(concrete, abstract)
  structs = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), PARAMS
  )
  from_structs = tx.init(structs)
  chex.assert_trees_all_equal_shapes_and_dtypes(concrete, from_structs)


@every_variant
@pytest.mark.parametrize("x64", [False, True])
def test_types_hold_in_every_dtype(name, x64):
  tx = variants.make(name)
  with jax.enable_x64(x64):
    for dtype in (np.float64,) if x64 else (jnp.bfloat16, np.float16):
      # A tree of two dtypes.
      params = {**PARAMS, "w": jnp.asarray(PARAMS["w"], dtype)}
      state = jax.eval_shape(tx.init, params)
      updates, after = jax.eval_shape(tx.update, params, state, params)
      chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
      chex.assert_trees_all_equal_shapes_and_dtypes(state, after)
      weak = [x.weak_type for x in jax.tree.leaves((updates, after))]
      assert not any(weak)
    state = jax.eval_shape(tx.init, PARAMS)
    updates, after = jax.eval_shape(tx.update, PARAMS, state, PARAMS)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, PARAMS)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, after)


@few_variants
def test_jit_agrees_with_eager_and_lowers_the_loss(name):
  tx = variants.make(name)
  state = tx.init(PARAMS)
  eager, eager_state = tx.update(GRADS, state, PARAMS)
  jitted, jitted_state = jax.jit(tx.update)(GRADS, state, PARAMS)
  chex.assert_trees_all_close(eager, jitted, rtol=1e-4, atol=1e-8)
  chex.assert_trees_all_close(eager_state, jitted_state, rtol=1e-4, atol=1e-6)

  def loss(params):
    return sum(jnp.sum(jnp.square(x - 0.3)) for x in params.values())

  tx = variants.make(name, num_steps=50, learning_rate=10.0)

  @jax.jit
  def step(carry, _):
    params, state = carry
    updates, state = tx.update(jax.grad(loss)(params), state, params)
    return (optax.apply_updates(params, updates), state), loss(params)

  carry = PARAMS, tx.init(PARAMS)
  _, losses = jax.lax.scan(step, carry, None, length=50)
  assert losses[-1] < 0.7 * losses[0]


@few_variants
def test_scan_and_cond(name):
  tx = variants.make(name)

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

  params, state = run(tx.init(PARAMS))
  assert state.count == 2 and np.any(params["w"] != PARAMS["w"])


@few_variants
def test_vmap_over_parameters(name):
  tx = variants.make(name)
  stacked = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), PARAMS)
  grads = jax.tree.map(lambda x: jnp.stack([x, -x]), GRADS)
  states = jax.vmap(tx.init)(stacked)
  many, _ = jax.jit(jax.vmap(tx.update))(grads, states, stacked)
  for i in range(2):
    got, grad, params = jax.tree.map(
      lambda x, i=i: x[i], (many, grads, stacked)
    )
    single, _ = tx.update(grad, tx.init(params), params)
    chex.assert_trees_all_close(got, single, rtol=1e-4, atol=1e-8)


@few_variants
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_trees_of_every_shape(name, dtype):
  tx = variants.make(name)
  params = {
    "scalar": jnp.ones([], dtype),
    "three": jnp.ones((2, 3, 4), dtype),
    "four": jnp.ones((2, 1, 3, 2), dtype),
    "empty": jnp.ones((0, 5), dtype),
    "none": None,
    "nested": [jnp.ones(3, dtype), (jnp.ones((2, 2), dtype), None)],
  }
  large = jax.tree.map(lambda x: 0.1 * x, params)  # bfloat16 has few digits.
  after, _ = steps(tx, large, halves(params))
  chex.assert_trees_all_equal_shapes_and_dtypes(after, params)
  for x, y in zip(jax.tree.leaves(after), jax.tree.leaves(large), strict=True):
    assert np.all(np.isfinite(np.float32(x))) and np.all(x != y)
  for empty in ({}, (), None):
    updates, state = tx.update(empty, tx.init(empty), empty)
    assert updates == empty and state.count == 1


@few_variants
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
    tx = variants.make(name)
    state = tx.init(params)

    def lies_like_its_parameter(leaf, param):
      # Rows of a factored moment lie as the first axis, columns everywhere.
      axes = {(8, 3): ("x", None), (3,): (None,), (): ()}
      lies = tuple(jax.typeof(leaf).sharding.spec)
      assert lies == axes.get(leaf.shape, ("x",))
      return leaf

    optax.tree.map_params(tx, lies_like_its_parameter, state, params)
    sharded, new_state = jax.jit(tx.update)(grads, state, params)
    assert jax.typeof(sharded["a"]).sharding.spec[0] == "x"
    before, after = (
      [jax.typeof(x) for x in jax.tree.leaves(s)] for s in (state, new_state)
    )
    assert before == after
    sharded = jax.device_get(sharded)
  one = jax.tree.map(np.asarray, jax.device_get((grads, params)))
  single, _ = tx.update(one[0], tx.init(one[1]), one[1])
  chex.assert_trees_all_close(sharded, single, rtol=1e-5, atol=1e-8)


@few_variants
def test_strict_promotion(name):
  params = {**PARAMS, "c": jnp.ones([], jnp.bfloat16)}
  lopt = variants.family(name)
  with (
    jax.numpy_dtype_promotion("strict"),
    jax.numpy_rank_promotion("raise"),
  ):
    theta = lopt.init(jax.random.key(0))
    tx = lopt.transform(theta, num_steps=10, weight_decay=0.1)
    updates, _ = jax.jit(tx.update)(halves(params), tx.init(params), params)
  assert updates["c"].dtype == jnp.bfloat16


@few_variants
def test_no_retrace_on_the_second_call(name):
  tx = variants.make(name)
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


def test_transformations_of_one_configuration_share_a_program(caplog):
  lopt, theta = (
    variants.family("adamw_scalars"),
    variants.theta("adamw_scalars"),
  )
  params = {"w": jnp.ones((3, 2)), "b": jnp.ones(5)}

  def compiled(tx, steps):
    """Returns how many programs of a step are made in some eager steps."""
    caplog.clear()
    state = tx.init(params)
    with jax.log_compiles():
      for _ in range(steps):
        _, state = tx.update(params, state, params)
    lines = [record.getMessage() for record in caplog.records]
    return sum(line.startswith("Compiling jit(step)") for line in lines)

  assert compiled(lopt.transform(theta, num_steps=10), 1) == 1
  assert compiled(lopt.transform(theta, num_steps=20), 1) == 0
  injected = optax.inject_hyperparams(
    lambda learning_rate: lopt.transform(theta, learning_rate=learning_rate)
  )
  assert compiled(injected(learning_rate=0.5), 3) == 0


@few_variants
def test_differentiable_in_learning_rate_and_theta(name):
  lopt = variants.family(name)
  start = {"w": PARAMS["w"]}

  def final(rate, theta):
    tx = lopt.transform(theta, num_steps=5, learning_rate=rate)

    def body(carry, _):
      params, state = carry
      updates, state = tx.update(params, state, params)
      return (optax.apply_updates(params, updates), state), None

    carry = start, tx.init(start)
    (params, _), _ = jax.lax.scan(body, carry, None, length=5)
    return sum(jnp.sum(x**2) for x in params.values())

  theta = variants.theta(name)
  grads = jax.jit(jax.grad(final, argnums=(0, 1)))(1.0, theta)
  assert grads[0] < 0  # A longer step lowers the loss.
  flat = ravel_pytree(grads[1])[0]
  assert jnp.all(jnp.isfinite(flat)) and jnp.any(flat != 0)
