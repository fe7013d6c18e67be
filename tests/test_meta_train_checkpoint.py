"""Checkpoints: bit-exact, atomic, and careful with what they cannot read."""

import os
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from meta_train.errors import UserError
from meta_train.run.checkpoint import CheckpointStore

OWNER = {"seed": 0}


class State(NamedTuple):
  theta: dict
  key: jax.Array
  count: jax.Array
  keys: tuple = ()


def _state(seed=0):
  rng = np.random.default_rng(seed)
  wild = np.array([np.nan, -0.0, np.inf, 1e-45, 1 / 3], np.float32)
  return State(
    theta={
      "a/b": {"w": jnp.asarray(rng.normal(size=(3, 4)), jnp.float32)},
      "half": jnp.asarray(rng.normal(size=5), jnp.bfloat16),
      "wild": jnp.asarray(wild),
      "none": None,
      "empty": jnp.zeros((0, 3), jnp.int8),
    },
    key=jax.random.key(seed),
    count=jnp.asarray(7, jnp.uint32),
    keys=(jax.random.split(jax.random.key(seed, impl="rbg"), 3), True),
  )


def _bits(tree):
  leaves = []
  for leaf in jax.tree.leaves(tree):
    if isinstance(leaf, jax.Array) and jnp.issubdtype(
      leaf.dtype, jax.dtypes.prng_key
    ):
      leaves.append(str(jax.random.key_impl(leaf)).encode())
      leaf = jax.random.key_data(leaf)
    array = np.asarray(leaf)
    leaves.append((array.dtype.name, array.shape, array.tobytes()))
  return jax.tree.structure(tree), leaves


def _store(folder, keep=2, owner=OWNER):
  return CheckpointStore(folder / "checkpoints", keep=keep, owner=owner)


def _damage(path, mode="flip"):
  data = bytearray(path.read_bytes())
  if mode == "flip":
    data[-3] ^= 1
  elif mode == "truncate":
    data = data[: len(data) // 2]
  elif mode == "empty":
    data = bytearray()
  elif mode == "header":
    data[:8] = (2**60).to_bytes(8, "little")
  path.write_bytes(data)


def test_nothing_is_restored_from_nothing(tmp_path):
  assert _store(tmp_path).restore(_state()) is None
  assert list(tmp_path.iterdir()) == []


def test_every_leaf_comes_back_bit_for_bit(tmp_path):
  state = _state(seed=3)
  _store(tmp_path).save(12, state)
  template = jax.eval_shape(lambda: _state()._replace(keys=()))._replace(
    keys=_state().keys
  )
  step, restored = _store(tmp_path).restore(template)
  assert step == 12
  assert _bits(restored) == _bits(state)
  assert restored.keys[1] is True
  assert type(restored) is State


def test_equal_states_give_equal_files(tmp_path):
  first = _store(tmp_path / "a").save(1, _state()).read_bytes()
  assert _store(tmp_path / "b").save(1, _state()).read_bytes() == first


def test_sharding_of_the_template_is_kept(tmp_path):
  mesh = jax.make_mesh((4,), ("tasks",))
  spec = jax.sharding.PartitionSpec("tasks")
  sharding = jax.sharding.NamedSharding(mesh, spec)
  state = {"x": jax.device_put(jnp.arange(8.0), sharding), "y": jnp.ones(3)}
  _store(tmp_path).save(1, state)
  _, restored = _store(tmp_path).restore(state)
  assert restored["x"].sharding == sharding
  # An uncommitted leaf stays free to meet the sharded one.
  np.testing.assert_array_equal(
    restored["x"] + restored["y"][0], np.arange(8) + 1
  )


def test_the_newest_are_kept(tmp_path):
  store = _store(tmp_path, keep=2)
  for step in (5, 10, 15, 100_000_000):
    store.save(step, {"x": jnp.ones(2)})
  assert store.steps() == [15, 100_000_000]


def test_the_best_is_kept_beside_the_newest(tmp_path):
  store = _store(tmp_path, keep=2)
  for step, best in ((5, None), (10, 5), (15, 5), (20, 5), (25, 20), (30, 20)):
    store.save(step, {"x": jnp.ones(2)}, best=best)
    kept = {5, 10, 15, 20, 25, 30} & {best, step - 5, step}
    assert store.steps() == sorted(kept)


@pytest.mark.parametrize("mode", ["flip", "truncate", "empty", "header"])
def test_a_damaged_newest_falls_back_and_is_kept_aside(tmp_path, mode):
  store = _store(tmp_path)
  for step in (5, 10):
    store.save(step, _state(seed=step))
  _damage(store.path(10), mode)
  step, restored = store.restore(_state())
  assert step == 5
  assert _bits(restored) == _bits(_state(seed=5))
  # Nothing is moved before the caller goes on from there.
  assert store.steps() == [5, 10]
  store.set_aside()
  names = sorted(os.listdir(store.folder))
  assert names == [
    "step-00000005.safetensors",
    "step-00000010.safetensors.damaged",
  ]
  # The run goes on: the good one is not pruned for the damaged one.
  store.save(7, _state(seed=7))
  assert store.steps() == [5, 7]


def test_if_all_are_damaged_nothing_is_touched(tmp_path):
  store = _store(tmp_path)
  for step in (5, 10):
    _damage(store.save(step, _state()))
  before = {p: p.read_bytes() for p in store.folder.iterdir()}
  with pytest.raises(UserError, match=r"no checkpoint in .* can be used"):
    store.restore(_state())
  assert {p: p.read_bytes() for p in store.folder.iterdir()} == before


def _reshaped(state):
  return state._replace(count=jnp.zeros(2, jnp.uint32))


def _retyped(state):
  return state._replace(count=jnp.asarray(7, jnp.int32))


def _renamed(state):
  return state._replace(theta={"other": jnp.ones(3)})


def _rekeyed(state):
  return state._replace(key=jax.random.key(0, impl="rbg"))


@pytest.mark.parametrize(
  "change, words",
  [
    (_reshaped, r"count has shape \(\), expected \(2,\)"),
    (_retyped, "count has dtype uint32, expected int32"),
    (_renamed, "lacks array theta/other; it has unknown arrays"),
    (_rekeyed, "key has dtype"),
  ],
)
def test_another_architecture_is_refused(tmp_path, change, words):
  store = _store(tmp_path)
  path = store.save(5, _state())
  before = path.read_bytes()
  with pytest.raises(UserError, match=words):
    store.restore(change(_state()))
  assert path.read_bytes() == before


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
  _store(tmp_path, owner={"seed": 1}).save(5, _state())
  with pytest.raises(
    UserError, match=r"with other settings \(seed 1 instead of 0\)"
  ):
    _store(tmp_path).restore(_state())


def test_a_checkpoint_under_another_name_is_refused(tmp_path):
  store = _store(tmp_path)
  store.save(5, _state()).rename(store.path(6))
  with pytest.raises(UserError, match="is of outer step 5; give it the name"):
    store.restore(_state())


def test_settings_that_are_newer_than_a_checkpoint_had_their_defaults(tmp_path):
  _store(tmp_path).save(5, _state())
  for noise in (0.5, 1.0):
    store = CheckpointStore(
      tmp_path / "checkpoints",
      keep=2,
      owner={"seed": 0, "noise": noise},
      defaults={"seed": 3, "noise": 0.5},
    )
    if noise == 0.5:
      assert store.restore(_state())[0] == 5
      continue
    with pytest.raises(UserError, match=r"\(noise 0.5 instead of 1.0\)"):
      store.restore(_state())


def test_a_foreign_safetensors_file_is_refused(tmp_path):
  from safetensors.numpy import save_file

  store = _store(tmp_path)
  store.folder.mkdir()
  save_file({"x": np.ones(2)}, store.path(5))
  with pytest.raises(UserError, match="of some other program"):
    store.restore(_state())


def test_a_failed_write_leaves_the_former_checkpoint(tmp_path, monkeypatch):
  store = _store(tmp_path)
  store.save(5, _state())

  def full(*args):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(os, "fsync", full)
  with pytest.raises(UserError, match="No space left"):
    store.save(5, _state(seed=1))
  monkeypatch.undo()
  assert os.listdir(store.folder) == ["step-00000005.safetensors"]
  assert _bits(store.restore(_state())[1]) == _bits(_state())


def test_partial_files_of_killed_runs_are_removed(tmp_path):
  store = _store(tmp_path)
  store.save(5, _state())
  (store.folder / ".step-00000010.safetensors.99.partial").write_bytes(b"x")
  store.save(10, _state())
  assert all(name.startswith("step-") for name in os.listdir(store.folder))
