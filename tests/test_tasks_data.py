"""Data: fixed disjoint parts and splits, and batches drawn from them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import data
from tasks.base import SPLITS
from tasks.data import base as data_base


@pytest.mark.parametrize("num_examples", [40, 1797])
def test_parts_and_splits_cover_all_rows_once(num_examples):
  rows = [
    data.index_splits(num_examples, part)[split]
    for part, split in itertools.product(data.PARTS, SPLITS)
  ]
  assert all(len(r) for r in rows)
  np.testing.assert_array_equal(
    np.sort(np.concatenate(rows)), np.arange(num_examples)
  )


def test_splits_do_not_change():
  rows = data.index_splits(1797, "held_out")["test"]
  assert rows[:4].tolist() == [2, 4, 12, 45]


def test_digits_are_what_they_should_be():
  digits = data.load("digits", "meta_train")
  assert digits is data.load("digits", "meta_train")
  assert digits.field_shape("image") == (8, 8, 1)
  assert digits.num_classes == 10
  assert len(digits) == 629
  batch = digits.sample(jax.random.key(0), "train", 500)
  image, label = batch["image"], batch["label"]
  assert image.dtype == jnp.float32
  assert image.min() == 0
  assert image.max() == 1
  assert label.dtype == jnp.int32
  assert set(np.unique(label)) == set(range(10))


def test_all_rows_are_drawn_and_equally_often():
  counts = np.bincount(
    data_base.random_rows(jax.random.key(0), 50, 50_000), minlength=50
  )
  assert len(counts) == 50
  # 1,000 expected per row: 5 standard errors are 157.
  np.testing.assert_allclose(counts, 1000, atol=157)


def test_rows_of_a_batch_are_independent():
  """Also those two that share a random word; odd sizes work."""
  draw = jax.vmap(lambda key: data_base.random_rows(key, 500, 63))
  rows = np.asarray(draw(jax.random.split(jax.random.key(0), 10_000)))
  assert rows.shape == (10_000, 63)
  correlation = np.corrcoef(rows.T) - np.eye(63)
  # Of 1,953 pairs at a standard error of 0.01, none is beyond 5 of them.
  assert np.abs(correlation).max() < 0.05


def test_large_tables_are_sampled_to_the_end():
  rows = data_base.random_rows(jax.random.key(0), 1 << 20, 10_000)
  assert rows.min() >= 0
  assert (1 << 20) * 0.99 < rows.max() < 1 << 20


def test_bytes_become_floats():
  values = {"image": np.full((20, 2), 255, np.uint8)}
  table = data.ArrayData(
    "x", "held_out", values, data.index_splits(20, "held_out")
  )
  image = table.sample(jax.random.key(0), "valid", 3)["image"]
  np.testing.assert_allclose(image, 1.0, rtol=1e-6)


def test_unknown_names_list_the_valid_ones():
  with pytest.raises(ValueError, match=r"Did you mean 'digits'.*breast_cancer"):
    data.load("digit")
  with pytest.raises(ValueError, match="held_out"):
    data.load("digits", "test")
  with pytest.raises(ValueError, match="image"):
    data.load("digits").field_shape("images")
