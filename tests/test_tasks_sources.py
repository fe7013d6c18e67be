"""Data that needs no files: bundled sets, texts and generators."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tasks import data
from tasks.data import (
  base,
  bpe,
  images,
  photographs,
  sklearn_files,
  sklearn_sets,
  stdlib_text,
)
from tasks.data.base import SequenceData

KEY = jax.random.key(0)
_FROM_FILES = {
  "mnist",
  "fashion_mnist",
  "cifar10",
  "cifar100",
  "svhn",
  "npz",
  "text_file",
}


def _sample(source, split, *sizes):
  """One compilation in place of one per operation."""
  return jax.jit(lambda key: source.sample(key, split, *sizes))(KEY)


OFFLINE = [name for name in data.list_sources() if name not in _FROM_FILES]


@pytest.mark.parametrize("name", OFFLINE)
def test_every_source_gives_sound_batches(name):
  source = data.load(name, "held_out")
  assert source.name == name
  assert source.part == "held_out"
  sample = jax.jit(
    lambda key: tuple(source.sample(key, s, 64) for s in ("train", "valid"))
  )
  batch, valid = sample(KEY)
  again, _ = sample(KEY)
  jax.tree.map(np.testing.assert_array_equal, batch, again)
  for field, values in batch.items():
    assert values.shape[0] == 64
    assert np.isfinite(values).all()
    assert not np.array_equal(values, valid[field]) or field == "weight"
    if not isinstance(source, SequenceData):
      assert source.field_shape(field) == values.shape[1:]
  for field in ("label", "obs", "target"):
    if field in batch:
      assert batch[field].dtype == jnp.int32
      assert batch[field].min() >= 0
      assert batch[field].max() < source.num_classes


@pytest.mark.parametrize("name", ["signals", "tones", "sprites", "teacher"])
def test_generated_classes_are_balanced_and_parts_differ(name):
  here, there = (data.load(name, part) for part in ("meta_train", "held_out"))
  label = np.asarray(_sample(here, "train", 4000)["label"])
  counts = np.bincount(label, minlength=here.num_classes)
  if name != "teacher":  # A teacher's classes are what they are.
    expected = 4000 / here.num_classes
    np.testing.assert_allclose(counts, expected, atol=5 * expected**0.5)
  field = "x" if name == "teacher" else "image"
  a = _sample(here, "train", 16)[field]
  b = _sample(there, "train", 16)[field]
  assert not np.allclose(a, b)


def test_sequences_are_shifted_by_one():
  for name in ("python_topics", "dyck", "modular", "recall"):
    batch = _sample(data.load(name), "train", 4, 20)
    assert batch["obs"].shape == (4, 20)
    np.testing.assert_array_equal(batch["obs"][:, 1:], batch["target"][:, :-1])


def test_brackets_nest():
  tokens = np.asarray(_sample(data.load("dyck"), "train", 32, 60)["obs"])
  closed = 0
  for row in tokens:
    stack = []
    for token in row:
      if token < 4:
        stack.append(token)
      else:
        closed += 1
        assert stack.pop() == token - 4
  assert closed > 500


def test_modular_sums_are_right():
  rows = np.asarray(_sample(data.load("modular"), "train", 64, 60)["obs"])
  a, b, c = rows.reshape(64, 20, 3).transpose(2, 0, 1)
  fits = [((m * a + b) % 23 == c).all() for m in range(1, 23)]
  assert sum(fits) == 1


def test_recalled_values_were_seen():
  batch = _sample(data.load("recall"), "train", 64, 40)
  tokens, weight = np.asarray(batch["obs"]), np.asarray(batch["weight"])
  assert 0.2 < weight.mean() < 0.5
  for row, known in zip(tokens, weight):
    seen = {}
    for i in range(0, 40, 2):
      if known[i]:
        assert seen[row[i]] == row[i + 1]
      seen[row[i]] = row[i + 1]


def test_texts_are_text_and_their_pairs_decode():
  text = stdlib_text.topics()
  assert b"statement" in text
  assert b"def " in stdlib_text.source()
  merges = bpe.train(text[:20_000], 300)
  assert len(merges) == 44
  tokens = bpe.encode(text[:5000], merges)
  assert len(tokens) < 0.8 * 5000
  assert bpe.decode(tokens, merges) == text[:5000]


def test_pairs_of_equal_bytes_merge_from_the_left():
  merges = [(97, 97)]
  assert bpe.encode(b"aaaaabaa", merges).tolist() == [256, 256, 97, 98, 256]
  assert bpe.decode(np.array([256, 97]), merges) == b"aaa"


def test_no_pair_reaches_across_a_space():
  merges = bpe.train(b"to be or not to be " * 50, 300)
  words = [bpe.decode(np.array([256 + i]), merges) for i in range(len(merges))]
  assert words
  assert not any(b" " in word[1:] for word in words)


def test_contiguous_parts_do_not_overlap():
  text = np.frombuffer(stdlib_text.topics(), np.uint8)
  pieces = [
    data.load("python_topics", part).tokens(split)
    for part in data.PARTS
    for split in ("train", "valid", "test")
  ]
  np.testing.assert_array_equal(np.concatenate(pieces), text)


def test_files_of_scikit_learn_are_what_it_loads(monkeypatch):
  def load():
    pictures = (photographs.photograph(n) for n in photographs.PHOTOGRAPHS)
    return *sklearn_sets.load_digits(), *pictures

  photographs.photograph.cache_clear()
  files = ("data/digits.csv.gz", "images/china.jpg", "images/flower.jpg")
  assert all(sklearn_files.find(file) for file in files)
  read = load()
  monkeypatch.setattr(sklearn_files, "find", lambda name: None)
  photographs.photograph.cache_clear()
  for x, y in zip(read, load(), strict=True):
    np.testing.assert_array_equal(x, y)


def test_scikit_learn_is_not_imported_for_digits():
  code = "import sys; from tasks import data; data.load('digits', 'meta_train')"
  code += "; assert 'sklearn' not in sys.modules"
  subprocess.run([sys.executable, "-c", code], check=True)


def test_photographs_are_cut_into_strips():
  assert photographs.photograph("china").shape == (427, 640, 3)
  source = data.load("photographs", "meta_train")
  image = source.sample(KEY, "train", 8)["image"]
  assert image.shape == (8, 16, 16, 3)
  assert 0 <= image.min() < image.max() <= 1
  with pytest.raises(ValueError, match="china, flower"):
    photographs.photograph("temple")


@pytest.mark.parametrize("part", data.PARTS)
def test_patches_of_every_size_lie_in_their_own_pixels(part):
  """Whatever its size, a patch lies in the part's pixels."""
  pixels = {
    name: photographs.photograph(name) for name in photographs.PHOTOGRAPHS
  }
  for size, source in photographs.NAMES.items():
    assert data.origin(f"{source}@4") == "photographs"
    patches = data.load(source, part)
    assert patches.field_shape("image") == (size, size, 3)
    columns = slice(*base.part_range(640, part))
    for split, rows in base.split_range(0, 427).items():
      strips = [image[slice(*rows), columns] for image in pixels.values()]
      image = np.asarray(patches.sample(KEY, split, 2)["image"])
      for patch in np.round(image * 255).astype(np.uint8):
        windows = [
          np.lib.stride_tricks.sliding_window_view(s, (size, size, 3))[
            :: size // 2, :: size // 2
          ]
          for s in strips
        ]
        assert any(np.all(w == patch, axis=(-3, -2, -1)).any() for w in windows)


def test_a_source_too_small_for_its_splits_is_refused():
  rows = {"train": np.arange(2), "valid": np.arange(0), "test": np.arange(1)}
  with pytest.raises(ValueError, match=r"'held_out'.*'tiny'.*split 'valid'"):
    base.ArrayData("tiny", "held_out", {"x": np.zeros(3)}, rows)


def test_resizing_keeps_the_mean_and_halves_exactly():
  pixels = np.random.RandomState(0).rand(3, 8, 8, 2).astype(np.float32)
  halved = images.resize(pixels, 4)
  blocks = pixels.reshape(3, 4, 2, 4, 2, 2).mean((2, 4))
  np.testing.assert_allclose(halved, blocks, rtol=1e-5)
  odd = images.resize(pixels, 5)
  np.testing.assert_allclose(odd.mean((1, 2)), pixels.mean((1, 2)), rtol=1e-5)


def test_a_size_may_follow_the_name():
  source = data.load("digits@4", "held_out")
  assert source.field_shape("image") == (4, 4, 1)
  with pytest.raises(ValueError, match=r"1\.\.64"):
    data.load("digits@0")
  shape = data.load("sprites@8").field_shape("image")
  assert shape == (8, 8, 3)
  assert data.load("tones@16").field_shape("image") == (16, 1, 1)
  with pytest.raises(ValueError, match="can't be resized"):
    data.load("python_topics@8")
