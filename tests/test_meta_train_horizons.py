"""Horizons: their law, its curriculum, and what the optimizer is told."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.engine import horizons
from meta_train.estimators import base

SAMPLES = 4000
KEYS = jax.random.split(jax.random.key(0), SAMPLES)


def lengths_at(outer_step, **options):
  settings = dict(truncation=10, low=20, high=2000) | options
  draw = jax.vmap(
    lambda key, step: horizons.draw_length(key, step, **settings), (0, None)
  )
  return np.asarray(jax.jit(draw)(KEYS, outer_step))


def test_a_curriculum_grows_the_longest_and_nothing_else():
  grown = [lengths_at(step, curriculum=100) for step in (0, 50, 100, 500)]
  assert np.all(grown[0] == 20)
  # Half way on a logarithmic scale.
  assert grown[1].max() == 200 and grown[1].min() == 20
  # The median of a log-uniform law is the geometric mean of its ends.
  assert abs(np.median(grown[1]) - np.sqrt(20 * 200)) <= 5
  np.testing.assert_array_equal(grown[2], lengths_at(0))
  np.testing.assert_array_equal(grown[3], grown[2])
  assert grown[3].max() > 1900 and np.all(grown[1] % 10 == 0)


def test_a_curriculum_never_leaves_the_bounds():
  for step in (0, 1, 37, 99):
    found = lengths_at(step, curriculum=100, truncation=50, low=60, high=1000)
    assert found.min() >= 100 and found.max() <= 1000


@pytest.mark.parametrize(
  "truncation, low, high", [(100, 100, 1050), (50, 60, 1000), (30, 100, 130)]
)
def test_what_is_stated_of_lengths_is_what_is_drawn(truncation, low, high):
  bounds = dict(truncation=truncation, low=low, high=high)
  drawn = lengths_at(0, **bounds)
  unroller = types.SimpleNamespace(
    truncation=truncation, min_horizon=low, max_horizon=high
  )
  assert drawn.max() == base.longest(unroller)
  # Within four standard errors, and the rounding to a whole step.
  error = 4 * drawn.std() / np.sqrt(SAMPLES) + 0.5
  assert abs(drawn.mean() - base.mean_length(unroller)) <= error


def test_some_are_told_nothing_and_some_what_is_wrong():
  def draw(key):
    return horizons.draw_told(key, jnp.int32(500), withhold=0.2, wrong=0.5)

  told = np.asarray(jax.vmap(draw)(KEYS))
  # Shares within four standard errors.
  for share, want in (
    (np.mean(told == 0), 0.2),
    (np.mean((told != 500) & (told > 0)), 0.8 * 0.5),
  ):
    assert abs(share - want) < 4 * np.sqrt(want * (1 - want) / SAMPLES) + 0.002
  wrong = told[(told != 500) & (told > 0)]
  assert wrong.min() >= 100 and wrong.max() <= 2500
  assert np.all(wrong == np.round(wrong))
  # As often too short as too long, by as much.
  assert abs(np.mean(wrong < 500) - 0.5) < 4 * 0.5 / np.sqrt(len(wrong))
  spread = np.std(np.log(wrong / 500))
  np.testing.assert_allclose(spread, np.log(5) / np.sqrt(3), rtol=0.05)


def test_a_wrong_length_is_at_least_one_step():
  def draw(key):
    return horizons.draw_told(key, jnp.int32(1), withhold=0.0, wrong=1.0)

  assert np.min(jax.vmap(draw)(KEYS)) == 1
