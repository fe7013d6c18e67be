"""Whatever a weights file holds, loading it gives weights or `WeightsError`.

Nothing else is raised, nothing large is allocated, and nothing is written:
for files damaged at random, and for files that are sound as files, checksum
included, and hostile in what they say.
"""

import copy
import dataclasses
import json
import os
import time
import tracemalloc

import jax
import numpy as np
import pytest
import safetensors.numpy

from flt_lopt import _named_arrays, _tensor_file, weights
from flt_lopt.config import FEATURE_SET, OptimizerConfig
from flt_lopt.learned_optimizer import LearnedOptimizer

CONFIG = OptimizerConfig(hidden_units=2, controller="off", memory_floats=2)
MAX_BYTES = 64 * 2**20


def nested(depth, kind):
  """Returns an empty list or object, nested in itself."""
  value = kind()
  for _ in range(depth):
    value = [value] if kind is list else {"a": value}
  return value


VALUES = (
  *(None, True, False, 0, 1, -1, 2, 4, 3.0, 4.0, 2.5, 1e308, -0.0),
  *(float("inf"), float("nan"), 200, 10**4, 10**9, 10**30, -(10**30)),
  *("", "flt", "off", "ema", "../../etc/passwd", "\0", "x" * 10_000, "é"),
  *([], [1], [[]], ["flt"], {}, {"a": 1}, {"__class__": "x"}, [[[[1e9]]]]),
  *(nested(600, list), nested(600, dict), [nested(600, list)] * 3),
  *([["step", 0.9]] * 65, [["step", 0.9]] * 10**4, [["x" * 10**4]], [0] * 100),
)


@pytest.fixture(scope="module")
def theta():
  tree = LearnedOptimizer(CONFIG).init(jax.random.key(0))
  return _named_arrays.flatten(tree).arrays


@pytest.fixture
def file(tmp_path):
  return tmp_path / "theta.safetensors"


def write_sound(file, tensors, description):
  """Writes a file by hand, with a right checksum, NaN in its JSON or not."""
  header = {"kind": "weights", "version": 1, "description": description}
  header["sha256"] = _tensor_file._digest(tensors, header)
  entry = {"flt_lopt": json.dumps(header, sort_keys=True)}
  file.write_bytes(safetensors.numpy.save(tensors, metadata=entry))


def description(**changes):
  config = dataclasses.asdict(CONFIG)
  made = {"config": config, "feature_set": FEATURE_SET, "provenance": {}}
  return {**made, **changes}


class Watch:
  """Asserts that loading costs and writes little; counts what was refused."""

  def __init__(self, folder):
    self.folder, self.refused, self.loaded = folder, 0, 0

  def __enter__(self):
    self.before = sorted(os.listdir(self.folder))
    tracemalloc.start()
    return self

  def load(self, file):
    """Loads a file, or not; only a `WeightsError` of one line may come out."""
    loaded = None
    tracemalloc.reset_peak()
    began = time.monotonic()
    try:
      loaded = weights.load(file)
      weights.read_provenance(file)
      self.loaded += 1
    except weights.WeightsError as error:
      assert "\n" not in str(error)
      assert len(str(error)) < 2000
      self.refused += 1
    assert tracemalloc.get_traced_memory()[1] < MAX_BYTES
    assert time.monotonic() - began < 30
    return loaded

  def __exit__(self, *error):
    tracemalloc.stop()
    if error == (None, None, None):
      assert sorted(os.listdir(self.folder)) == self.before


@pytest.mark.parametrize(
  "path",
  [
    "./nul\0.safetensors",
    "~nobody-of-this-name/x.safetensors",
    "./" + "x" * 5000 + ".safetensors",
    "./" + "y/" * 5000 + "x.safetensors",
    "/dev/null/x.safetensors",
    "./\udcff.safetensors",
    "../../../../../../../../../../../../etc/passwd",
    "/",
    "",
    "\n",
  ],
)
def test_hostile_paths_are_refused(path):
  with pytest.raises(weights.WeightsError):
    weights.load(path)


def damage(rng, data):
  """Returns the bytes of a file, damaged in one of six ways."""
  start, end = sorted(int(i) for i in rng.integers(0, len(data), 2))
  # Half of the damage hits the header's length, and the header.
  if rng.random() < 0.5:
    start, end = start % 2000, start % 2000 + int(rng.integers(1, 20))
  junk = rng.bytes(end - start)
  kind = rng.integers(6)
  if kind == 0:
    return data[:start]
  if kind == 1:
    bit = bytes([data[start] ^ (1 << int(rng.integers(8)))])
    return data[:start] + bit + data[start + 1 :]
  if kind == 2:
    return data[:start] + junk + data[end:]
  if kind == 3:
    return data[:start] + junk + data[start:]
  if kind == 4:
    return data[:start] + data[end:]
  return data + data[start:end]


def test_a_thousand_damaged_files_are_refused(file):
  data = weights._find("flt-quick").read_bytes()
  rng = np.random.default_rng(0)
  file.write_bytes(data)
  with Watch(file.parent) as watch:
    for _ in range(1000):
      damaged = damage(rng, data)
      if damaged == data:
        continue
      file.write_bytes(damaged)
      watch.load(file)
  assert watch.loaded == 0 and watch.refused > 950


def test_a_thousand_damaged_headers_are_refused(file):
  data = weights._find("flt-quick").read_bytes()
  length = int.from_bytes(data[:8], "little")
  header, rest = data[8 : 8 + length], data[8 + length :]
  original = weights.load("flt-quick")
  rng = np.random.default_rng(1)
  pieces = [b"[", b"{", b"]", b"}", b'"', b":", b",", b"9", b"-", b"e9", b"\\u"]
  file.write_bytes(data)
  with Watch(file.parent) as watch:
    for _ in range(1000):
      position = int(rng.integers(length))
      piece = pieces[rng.integers(len(pieces))] * int(rng.choice([1, 2, 999]))
      drop = int(rng.integers(0, 3))
      new = header[:position] + piece + header[position + drop :]
      if new == header:
        continue
      file.write_bytes(len(new).to_bytes(8, "little") + new + rest)
      loaded = watch.load(file)
      if loaded is not None:  # The damage was to a blank.
        assert loaded[0] == original[0]
        jax.tree.map(np.testing.assert_array_equal, loaded[1], original[1])
  assert watch.loaded < 10 and watch.refused > 950


def test_hostile_configurations_are_refused(file, theta):
  write_sound(file, theta, description())
  with Watch(file.parent) as watch:
    watch.load(file)
    assert watch.loaded == 1
    for field in dataclasses.asdict(CONFIG):
      for value in VALUES:
        changed = copy.deepcopy(description())
        changed["config"][field] = value
        write_sound(file, theta, changed)
        watch.load(file)
    for key in description():
      for value in VALUES:
        write_sound(file, theta, description(**{key: value}))
        watch.load(file)
  assert watch.refused > 200


def test_no_long_text_is_searched_or_printed(file, theta):
  long = "x" * 15_000_000
  config = description()["config"]
  for changes in (
    {"config": {**config, "memory": long}},
    {"config": {**config, long: 1}},
    {"config": {**config, "extra_poles": [[long, 0.9]]}},
    {"feature_set": long},
  ):
    write_sound(file, theta, description(**changes))
    with pytest.raises(weights.WeightsError) as caught:
      weights.load(file)
    assert len(str(caught.value)) < 2000
  write_sound(file, {**theta, long: np.ones(1)}, description())
  with pytest.raises(weights.WeightsError, match="unknown array xxx") as caught:
    weights.load(file)
  assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
  "field, value, rule",
  [
    ("nesterov", 2.5, "nesterov=2.5 must be True or False"),
    ("memory_floats", 2.0, "memory_floats=2.0 must be a whole number"),
    ("hidden_units", True, "hidden_units=True must be a whole number"),
    ("epsilon", "1e-8", "epsilon='1e-8' must be a number"),
    ("memory", 3, "memory=3 must be a text"),
    ("extra_poles", 7, "extra_poles=7 must be a list"),
    ("extra_poles", [["step", 0.9]] * 65, "65 items is longer than 64"),
  ],
)
def test_values_of_another_type_are_refused(file, theta, field, value, rule):
  config = {**dataclasses.asdict(CONFIG), field: value}
  write_sound(file, theta, description(config=config))
  with pytest.raises(weights.WeightsError, match=rule):
    weights.load(file)
  with pytest.raises(ValueError, match=r"must be|65 poles"):
    OptimizerConfig(**{field: value})


@pytest.mark.parametrize(
  "sizes",
  [
    {"hidden_units": 200},
    {"controller_width": 200, "controller_features": 256},
    {"controller_heads": 256, "controller_features": 256},
    {"controller_width": 10**4, "controller_features": 10**4},
    {"hidden_units": 10**5},
  ],
)
def test_large_networks_are_refused_at_small_cost(file, theta, sizes):
  config = {**dataclasses.asdict(CONFIG), "controller": "flt", **sizes}
  write_sound(file, theta, description(config=config))
  with Watch(file.parent) as watch:
    watch.load(file)
  assert watch.refused == 1


def test_sizes_beyond_the_bound_are_neither_made_nor_loaded(file, theta):
  with pytest.raises(ValueError, match="controller_features=300 must be from"):
    OptimizerConfig(controller_features=300)
  write_sound(
    file,
    theta,
    description(config=dataclasses.asdict(CONFIG) | {"controller_width": 300}),
  )
  with pytest.raises(weights.WeightsError, match="300 is larger than"):
    weights.load(file)


def test_a_configuration_without_finite_numbers_is_refused(file, theta):
  for value in (float("inf"), float("nan")):
    config = {**dataclasses.asdict(CONFIG), "epsilon": value}
    write_sound(file, theta, description(config=config))
    with pytest.raises(weights.WeightsError, match=r"not finite|positive"):
      weights.load(file)


def test_hostile_arrays_are_refused(file, theta):
  rng = np.random.default_rng(2)
  names = sorted(theta)
  write_sound(file, theta, description())
  with Watch(file.parent) as watch:
    for case in range(200):
      tensors = dict(theta)
      name = names[rng.integers(len(names))]
      array = tensors.pop(name)
      kind = case % 5
      if kind == 0:  # A name that is a path, or of another array.
        other = rng.choice(["../up", "/etc/passwd", "", "memory", "a/" * 500])
        tensors[str(other)] = array
      elif kind == 1:
        dtype = rng.choice(list(_tensor_file._DTYPES.values()))
        tensors[name] = array.astype(dtype)
        if dtype == array.dtype:
          continue
      elif kind == 2:
        tensors[name] = array[None] if rng.random() < 0.5 else array.ravel()[:0]
      elif kind == 3:
        tensors[name] = np.full_like(array, rng.choice([np.nan, np.inf]))
        if not array.size:
          continue
      write_sound(file, tensors, description())
      watch.load(file)
  assert watch.loaded == 0 and watch.refused > 150
