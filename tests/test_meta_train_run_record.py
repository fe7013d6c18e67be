"""A run that goes on elsewhere, or with other code, says what differs."""

import dataclasses
import importlib
import json
import re

import jax
import jax.numpy as jnp
import pytest

from meta_train.config import MetaTrainConfig
from meta_train.run import environment, run_folder

CONFIG = MetaTrainConfig(outer_steps=10)
START = {"theta": jnp.zeros(3), "key": jax.random.key(0)}


def _config(folder, **changes):
  return dataclasses.replace(CONFIG, run_dir=str(folder), **changes)


def _resume(folder, **changes):
  """Does a step in a folder, or continues from it."""
  with run_folder.open_run(_config(folder, **changes)) as run:
    if run.restore(START) is None:
      run.append({"outer_step": 1})
      run.save(1, START)


def test_going_on_with_other_devices_is_a_warning(tmp_path, caplog):
  with run_folder.open_run(_config(tmp_path), used={"devices": 2}) as run:
    run.restore(START)
    run.append({"outer_step": 1})
    run.save(1, START)
  for devices, words in ((2, ""), (4, "with devices 4 instead of 2")):
    caplog.clear()
    used = {"devices": devices}
    with run_folder.open_run(_config(tmp_path), used=used) as run:
      assert run.restore(START)[0] == 1
    assert ("to rounding" in caplog.text) == bool(words)
    assert words in caplog.text


@pytest.mark.parametrize(
  "name, then, words",
  [
    ("backend", "gpu", "backend cpu instead of gpu: .* to rounding, not bit"),
    ("device_kind", "H", "device kind .* instead of H: .* to rounding"),
    ("git_revision", "1234", "revision .* instead of 1234: .* need not end"),
    ("versions", {"flt-lopt": "0.0"}, "flt-lopt .* instead of 0.0: .*need not"),
  ],
)
def test_going_on_elsewhere_is_a_warning(
  tmp_path, caplog, monkeypatch, name, then, words
):
  monkeypatch.setattr(environment, "_git_revision", lambda: "567")
  _resume(tmp_path)
  _resume(tmp_path)
  assert not caplog.records
  file = tmp_path / "environment.json"
  record = json.loads(file.read_text())
  file.write_text(json.dumps(record | {name: then}))
  _resume(tmp_path)
  (warning,) = caplog.messages
  assert re.search(words, warning)
  # What an older version did not write is not compared.
  caplog.clear()
  del record[name]
  file.write_text(json.dumps(record))
  _resume(tmp_path)
  assert not caplog.records


def test_a_changed_task_of_ones_own_is_a_warning(tmp_path, caplog, monkeypatch):
  file = tmp_path / "task_that_changes.py"
  file.write_text("class Mine: pass")
  monkeypatch.syspath_prepend(tmp_path)
  importlib.import_module(file.stem)
  task = "task_that_changes:Mine"
  for _ in range(2):
    _resume(tmp_path / "run", task=task)
  assert not caplog.records
  file.write_text("class Mine: x = 1")
  _resume(tmp_path / "run", task=task)
  assert f"--task={task} has changed" in caplog.text
