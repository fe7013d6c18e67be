"""Baselines: the stated grids, and the optimizers that they name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train.evaluation import baselines


def test_half_decades_are_the_floats_that_are_written():
  assert baselines.half_decades(-4, 7) == (
    1e-4,
    3e-4,
    1e-3,
    3e-3,
    1e-2,
    3e-2,
    1e-1,
  )
  assert baselines.one_two_five(-5, 5) == (2e-5, 5e-5, 1e-4, 2e-4, 5e-4)


def test_the_grids_are_as_stated():
  sizes = {
    "adam": 14,
    "adam_cosine": 14,
    "prodigy": 7,
    "sgd": 7,
    "adafactor": 7,
  }
  for name in baselines.list_baselines():
    baseline = baselines.get_baseline(name)
    assert len(baseline.rates) == sizes.get(name, 9)
    assert baseline.tuned_apart == (name not in ("adam", "adam_cosine"))
    top = {"lion": 0.1, "adamw": 1.0, "muon": 1.0}
    assert max(baseline.rates) == top.get(name, max(baseline.rates))


@pytest.mark.parametrize("name", baselines.list_baselines())
def test_grid_trains_as_one_vmapped_program(name):
  baseline = baselines.get_baseline(name)

  @jax.jit
  @jax.vmap
  def final_loss(learning_rate):
    tx = baseline.factory(learning_rate, 200)
    params = jnp.ones(3)

    def step(carry, _):
      params, state = carry
      updates, state = tx.update(2 * params, state, params)
      return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.lax.scan(
      step, (params, tx.init(params)), None, length=200
    )
    return jnp.sum(params**2)

  losses = np.asarray(final_loss(jnp.asarray(baseline.rates)))
  assert losses.min() < 0.01 * 3.0  # Some rate of the grid solves it,
  assert losses[0] > 10 * losses.min()  # and the smallest is too small.


def test_adam_is_optax_adam():
  grads = jnp.asarray([1.0, -2.0, 0.5])
  ours = baselines.get_baseline("adam").factory(jnp.float32(3e-3), 10)
  optaxs = optax.adam(3e-3)
  np.testing.assert_array_equal(
    ours.update(grads, ours.init(grads))[0],
    optaxs.update(grads, optaxs.init(grads))[0],
  )


def test_cosine_warms_up_and_ends_at_a_hundredth():
  tx = baselines.get_baseline("adam_cosine").factory(jnp.float32(1.0), 100)
  grads = jnp.ones(1)
  state, sizes = tx.init(grads), []
  for _ in range(101):
    # The gradient is constant, so that Adam's update is the rate itself.
    updates, state = tx.update(grads, state)
    sizes.append(-float(updates[0]))
  assert sizes[0] < sizes[2] < sizes[5]
  assert max(sizes) == pytest.approx(1.0, rel=1e-4)
  assert np.argmax(sizes) == 5  # Five per cent of the run.
  assert sizes[100] == pytest.approx(0.01, rel=1e-3)


def test_unknown_name_suggests_the_right_one():
  with pytest.raises(ValueError, match=r"'adma'.*adam_cosine.*'adam'\?"):
    baselines.get_baseline("adma")


def test_another_grid_is_checked():
  assert baselines.get_baseline("adam", rates=(0.1, 0.2)).rates == (0.1, 0.2)
  with pytest.raises(ValueError, match="ascending"):
    baselines.get_baseline("adam", rates=(0.2, 0.1))
