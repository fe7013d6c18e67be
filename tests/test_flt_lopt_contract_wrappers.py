"""Every learned optimizer inside optax's wrappers and other libraries."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optimizer_variants as variants
import pytest
from optimizer_variants import few_variants

PARAMS = variants.parameters()
GRADS = jax.tree.map(lambda x: 0.1 * x + 0.02, PARAMS)


@few_variants
def test_masked_and_partition(name):
  tx = variants.make(name)
  masked = optax.masked(tx, {"b": False, "k": True, "s": False, "w": True})
  updates, _ = masked.update(GRADS, masked.init(PARAMS), PARAMS)
  np.testing.assert_array_equal(updates["b"], GRADS["b"])
  assert np.all(updates["w"] != GRADS["w"])
  labels = {"b": "sgd", "k": "flt", "s": "sgd", "w": "flt"}
  split = optax.partition({"flt": tx, "sgd": optax.sgd(0.1)}, labels)
  also, _ = split.update(GRADS, split.init(PARAMS), PARAMS)
  np.testing.assert_allclose(also["b"], -0.1 * GRADS["b"], rtol=1e-6)
  np.testing.assert_allclose(also["w"], updates["w"], rtol=1e-5)


@few_variants
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_multi_steps(name, dtype):
  params, grads = jax.tree.map(lambda x: jnp.asarray(x, dtype), (PARAMS, GRADS))
  tx = variants.make(name)
  many = optax.MultiSteps(tx, every_k_schedule=2)
  update = jax.jit(many.update)
  first, state = update(grads, many.init(params), params)
  second, state = update(grads, state, params)
  assert all(np.all(x == 0) for x in jax.tree.leaves(first))
  want, _ = tx.update(grads, tx.init(params), params)
  chex.assert_trees_all_close(second, want, rtol=2e-2)


@few_variants
def test_apply_if_finite(name):
  tx = optax.apply_if_finite(variants.make(name), 3)
  bad = {**GRADS, "b": GRADS["b"] * np.nan}
  update = jax.jit(tx.update)
  updates, state = update(bad, tx.init(PARAMS), PARAMS)
  assert all(np.all(x == 0) for x in jax.tree.leaves(updates))
  updates, _ = update(GRADS, state, PARAMS)
  assert np.all(np.isfinite(updates["b"])) and np.any(updates["b"] != 0)


@few_variants
def test_conditionally_transform(name):
  tx = optax.conditionally_transform(
    variants.make(name), lambda count, *a, **k: count < 1
  )
  update = jax.jit(tx.update)
  first, state = update(GRADS, tx.init(PARAMS), PARAMS)
  second, _ = update(GRADS, state, PARAMS)
  assert np.any(first["w"] != GRADS["w"])
  np.testing.assert_array_equal(second["w"], GRADS["w"])


@few_variants
def test_inject_hyperparams_also_of_the_horizon(name):
  lopt, theta = variants.family(name), variants.theta(name)

  def factory(learning_rate, num_steps, weight_decay):
    return lopt.transform(
      theta,
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
  plain = variants.make(name, learning_rate=0.5, weight_decay=0.1)
  want, _ = plain.update(GRADS, plain.init(PARAMS), PARAMS)
  chex.assert_trees_all_close(injected, want, rtol=1e-4, atol=1e-8)
  new_state.hyperparams["num_steps"] = jnp.asarray(500)
  changed, _ = update(GRADS, new_state, PARAMS)
  same, _ = update(GRADS, update(GRADS, state, PARAMS)[1], PARAMS)
  assert np.any(np.asarray(changed["w"]) != np.asarray(same["w"]))


@few_variants
def test_schedules_as_learning_rate(name):
  schedule = optax.piecewise_constant_schedule(1.0, {1: 0})
  lopt = variants.family(name)
  tx = lopt.transform(
    variants.theta(name), num_steps=variants.STEPS, learning_rate=schedule
  )
  state = tx.init(PARAMS)
  first, state = tx.update(GRADS, state, PARAMS)
  second, _ = tx.update(GRADS, state, PARAMS)
  assert np.any(first["w"] != 0) and np.all(second["w"] == 0)


@few_variants
def test_flax_nnx_optimizer(name):
  nnx = pytest.importorskip("flax.nnx")
  model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
  optimizer = nnx.Optimizer(model, variants.make(name), wrt=nnx.Param)
  before = np.asarray(model.kernel[...])

  @nnx.jit
  def step(model, optimizer):
    grads = nnx.grad(lambda m: jnp.sum(m(jnp.ones((4, 3))) ** 2))(model)
    optimizer.update(model, grads)

  step(model, optimizer)
  step(model, optimizer)
  assert np.all(np.isfinite(model.kernel[...]))
  assert np.any(np.asarray(model.kernel[...]) != before)


@few_variants
def test_equinox_filtered_parameters(name):
  eqx = pytest.importorskip("equinox")
  model = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
  tx = variants.make(name)
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


MASKS = {
  "tree": {"a": True, "more": {"k": False, "none": None}, "w": True},
  "prefix": {"a": False, "more": True, "w": False},
  "one": True,
  "function": lambda params: jax.tree.map(lambda x: x.ndim > 1, params),
  "function of a prefix": lambda params: {"a": True, "more": False, "w": True},
}


def decay_like_adamw(params, mask):
  """Asserts that the untrained optimizer decays what optax.adamw does."""
  lopt = variants.family(variants.DEFAULT, init_learning_rate=0.1)
  theta = variants.theta(variants.DEFAULT, noise=0.0)
  grads = jax.tree.map(lambda x: 0.1 * x + 0.02, params)
  ours = lopt.transform(theta, weight_decay=10.0, mask=mask)
  # The schedule of a run of unknown length begins at 1 / 101.
  adamw = optax.adamw(0.1 / 101, weight_decay=10.0, mask=mask)
  got, _ = ours.update(grads, ours.init(params), params)
  want, _ = adamw.update(grads, adamw.init(params), params)
  chex.assert_trees_all_close(got, want, rtol=1e-4)


@pytest.mark.parametrize("kind", MASKS)
def test_masks_of_weight_decay_are_those_of_optax(kind):
  params = {
    "a": jnp.full(4, 0.3),
    "more": {"k": jnp.full((2, 2), 0.2), "none": None},
    "w": jnp.full((3, 2), -0.4),
  }
  decay_like_adamw(params, MASKS[kind])


def test_an_equinox_module_is_a_mask_though_it_can_be_called():
  eqx = pytest.importorskip("equinox")
  model = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
  params = eqx.filter(model, eqx.is_inexact_array)
  mask = jax.tree.map(lambda x: x.ndim > 1, params)
  assert callable(mask)
  decay_like_adamw(params, mask)
