"""Weights files: exact, and harmless whatever they contain."""

import dataclasses
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

import flt_lopt
from flt_lopt import _tensor_file, weights
from flt_lopt.config import FEATURE_SET, OptimizerConfig
from flt_lopt.learned_optimizer import LearnedOptimizer

CONFIG = OptimizerConfig(hidden_units=4)


@pytest.fixture(scope="module")
def theta():
  return LearnedOptimizer(CONFIG).init(jax.random.key(0))


@pytest.fixture
def file(tmp_path, theta):
  path = tmp_path / "theta.safetensors"
  weights.save(path, CONFIG, theta, {"seed": 1})
  return path


def _rewrite(path, *, tensors=None, kind="weights", version=1, **changes):
  """Writes the file again with a right checksum and other content."""
  old = _tensor_file.read(path, kind="weights", version=1)
  _tensor_file.write(
    path,
    {**old.tensors, **(tensors or {})},
    kind=kind,
    version=version,
    description={**old.description, **changes},
  )


def _config_with(**changes):
  return {**dataclasses.asdict(CONFIG), **changes}


def _refused(path, words):
  before = sorted(os.listdir(path.parent))
  with pytest.raises(weights.WeightsError, match=words) as caught:
    weights.load(path)
  assert "\n" not in str(caught.value)
  assert sorted(os.listdir(path.parent)) == before


def test_weights_come_back_bit_for_bit(file, theta):
  config, loaded = weights.load(file)
  assert config == CONFIG
  assert jax.tree.structure(loaded) == jax.tree.structure(theta)
  for a, b in zip(jax.tree.leaves(loaded), jax.tree.leaves(theta), strict=True):
    assert isinstance(a, np.ndarray)
    assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
  assert weights.read_provenance(file) == {"seed": 1}


@pytest.mark.parametrize(
  "setting",
  [
    jax.enable_x64(True),
    jax.numpy_dtype_promotion("strict"),
    jax.numpy_rank_promotion("raise"),
  ],
  ids=["x64", "strict promotion", "no rank promotion"],
)
def test_weights_know_no_settings_of_jax(tmp_path, setting):
  path = tmp_path / "theta.safetensors"
  config = OptimizerConfig()
  params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
  with setting:
    weights.save(path, config, LearnedOptimizer(config).init(jax.random.key(0)))
    flt_lopt.flt(10, weights="flt-quick").init(params)
    flt_lopt.flt(10, weights=path).init(params)
  _, inside = weights.load(path)
  outside = LearnedOptimizer(config).init(jax.random.key(0))
  for a, b in zip(
    jax.tree.leaves(inside), jax.tree.leaves(outside), strict=True
  ):
    assert a.dtype == b.dtype == np.float32 and a.shape == b.shape


def test_equal_weights_give_equal_files(file, tmp_path, theta):
  weights.save(tmp_path / "b.safetensors", CONFIG, theta, {"seed": 1})
  assert (tmp_path / "b.safetensors").read_bytes() == file.read_bytes()


def test_the_package_exports_them():
  assert flt_lopt.load is weights.load
  assert flt_lopt.save is weights.save
  assert issubclass(flt_lopt.WeightsError, ValueError)


def test_shipped_weights_load_by_name():
  for name in weights.list_pretrained():
    config, loaded = weights.load(name)
    assert LearnedOptimizer(config).transform(loaded) is not None
    assert weights.read_provenance(name)


def test_loading_by_name_looks_nowhere_else(tmp_path, monkeypatch, file):
  monkeypatch.setattr(weights, "_PRETRAINED", tmp_path)
  (tmp_path / "flt-x.safetensors").write_bytes(file.read_bytes())
  assert weights.load("flt-x")[0] == CONFIG
  for name in ("flt-y", "", "..", "nul\0", "theta"):
    if name == "theta":  # In the current folder, not among the shipped.
      monkeypatch.chdir(tmp_path)
      os.rename(file, tmp_path / "theta")
    with pytest.raises(weights.WeightsError, match=r"there are: .*flt-x"):
      weights.load(name)
  with pytest.raises(weights.WeightsError, match=r"Did you mean 'flt-x'\?"):
    weights.load("flt-xx")


def test_a_missing_file_says_so(tmp_path):
  with pytest.raises(weights.WeightsError, match="no weights file"):
    weights.load(tmp_path / "none.safetensors")
  _refused(tmp_path / "..", "is a folder; name the file in it")


def test_every_cut_is_noticed(file):
  data = file.read_bytes()
  for length in (0, 1, 7, 8, 9, 100, len(data) // 2, len(data) - 1):
    file.write_bytes(data[:length])
    _refused(file, "damaged")


def test_every_flipped_bit_is_noticed(file):
  data = file.read_bytes()
  rng = np.random.default_rng(0)
  for position in [*range(16), *rng.integers(16, len(data), 100)]:
    damaged = bytearray(data)
    damaged[position] ^= 1 << int(rng.integers(8))
    file.write_bytes(damaged)
    _refused(file, "damaged|other program|no safetensors")


def test_an_absurd_header_length_is_refused_unread(file):
  for length in (2**63, 2**40, 2**25):
    file.write_bytes(length.to_bytes(8, "little") + b"{}" * 100)
    _refused(file, "damaged")


def test_a_header_of_nonsense_is_refused(file):
  for header in (
    b"[" * 10_000,
    b"{}",
    b'{"x": 1}',
    b'{"x": {"dtype": "F32", "shape": [1e9], "data_offsets": [0, 4]}}',
    b'{"x": {"dtype": "F32", "shape": [4294967296, 4294967296],'
    b' "data_offsets": [0, 0]}}',
    b'{"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
    b'{"x": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}',
    b'{"__metadata__": {"flt_lopt": "[]"}}',
    b'{"__metadata__": {"flt_lopt": "{\\"kind\\": 3}"}}',
  ):
    data = len(header).to_bytes(8, "little") + header
    file.write_bytes(data + (b"\0" * 4 if b"[0, 4]" in header else b""))
    _refused(file, "damaged|other program")


def test_a_foreign_file_is_refused(file):
  safetensors.numpy.save_file({"w": np.ones(2)}, file)
  _refused(file, "of some other program")
  file.write_bytes(b"\x80\x04\x95 pickled")
  _refused(file, "damaged or no safetensors file")


def test_another_kind_or_version_is_refused(file):
  data = file.read_bytes()
  _rewrite(file, kind="checkpoint")
  _refused(file, "a 'checkpoint' file, not a 'weights' file")
  file.write_bytes(data)
  _rewrite(file, version=99)
  _refused(file, "version 99.*upgrade")
  file.write_bytes(data)
  _rewrite(file, feature_set=FEATURE_SET - 1)
  _refused(file, "inputs and steps of version")


@pytest.mark.parametrize(
  "config, words",
  [
    (None, "configuration"),
    ([1, 2], "configuration"),
    (_config_with(warp_factor=9), "warp_factor"),
    (_config_with(memory="no such memory"), "no such memory"),
    (_config_with(controller="no such encoding"), "no such encoding"),
    (_config_with(hidden_units="8"), "configuration|not supported"),
    (_config_with(hidden_units=10**9), "larger than"),
    (_config_with(hidden_units=5), "expected"),
    (_config_with(controller="off"), "unknown array"),
  ],
)
def test_a_config_that_does_not_fit_is_refused(file, config, words):
  _rewrite(file, config=config)
  _refused(file, words)


def test_arrays_that_do_not_fit_are_refused(file, theta):
  data = file.read_bytes()
  tensors = _tensor_file.read(file, kind="weights", version=1).tensors
  name = sorted(tensors)[0]
  for array, words in (
    (tensors[name].astype(np.float64), "dtype float64, expected float32"),
    (tensors[name][..., None], "has shape"),
    (np.full_like(tensors[name], np.nan), "not finite"),
  ):
    file.write_bytes(data)
    _rewrite(file, tensors={name: array})
    _refused(file, words)
  file.write_bytes(data)
  _rewrite(file, tensors={"../../etc/passwd": np.ones(1, np.float32)})
  _refused(file, "unknown array")


def test_saving_what_does_not_fit_leaves_the_old_file(file, theta):
  before = file.read_bytes()
  bad = jax.tree.map(lambda x: x * np.nan, theta)
  with pytest.raises(weights.WeightsError, match="not finite"):
    weights.save(file, CONFIG, bad, None)
  with pytest.raises(weights.WeightsError, match="does not fit"):
    weights.save(file, OptimizerConfig(hidden_units=5), theta, None)
  with pytest.raises((TypeError, ValueError)):
    weights.save(file, CONFIG, theta, {"seed": object()})
  assert file.read_bytes() == before
  assert os.listdir(file.parent) == [file.name]


def test_the_header_is_readable_json(file):
  with safetensors.safe_open(file, framework="numpy") as opened:
    header = json.loads(opened.metadata()["flt_lopt"])
  assert header["description"]["config"]["hidden_units"] == 4
