"""Run folders: continued bit for bit, owned by one run, never overwritten."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flt_lopt
from meta_train import json_lines
from meta_train.config import MetaTrainConfig
from meta_train.errors import UserError
from meta_train.run import run_folder, run_record

CONFIG = MetaTrainConfig(outer_steps=10, keep_checkpoints=2)
START = {"theta": jnp.zeros(3), "key": jax.random.key(0)}


def _config(folder, **changes):
  return dataclasses.replace(CONFIG, run_dir=str(folder), **changes)


def _snapshot(folder):
  files = (path for path in folder.rglob("*") if path.is_file())
  return {str(path): path.read_bytes() for path in files}


def _train(config, *, until=None):
  """Stands in for the loop: a random walk, checkpointed every 4 steps."""
  with run_folder.open_run(config, command=["train"]) as run:
    step, state = run.restore(START) or (0, START)
    while step < (config.outer_steps if until is None else until):
      key, draw = jax.random.split(state["key"])
      theta = state["theta"] + jax.random.normal(draw, (3,))
      state, step = {"theta": theta, "key": key}, step + 1
      run.metrics.append(outer_step=step, meta_loss=theta[0])
      if step % 4 == 0 or step == config.outer_steps:
        run.save(step, state)
    return np.asarray(state["theta"]), run.metrics.read()


def test_the_folder_records_what_was_run(tmp_path):
  config = _config(tmp_path / "a" / "run", seed=3)
  _train(config)
  assert run_record.read_config(tmp_path / "a" / "run") == config
  text = (tmp_path / "a" / "run" / "environment.json").read_text()
  environment = json.loads(text)
  assert environment["seed"] == 3
  assert environment["command"] == ["train"]
  assert environment["versions"]["jax"] == jax.__version__
  assert environment["versions"]["flt-lopt"] == flt_lopt.__version__
  assert environment["num_devices"] == jax.device_count()


@pytest.mark.parametrize("stop", [0, 2, 4, 7, 8, 10])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(tmp_path, stop):
  theta, rows = _train(_config(tmp_path / "whole"))
  _train(_config(tmp_path / "parts"), until=stop)
  # A kill may also cut the last row short.
  with (tmp_path / "parts" / "metrics.jsonl").open("ab") as file:
    file.write(b'{"outer_step": 9, "meta_')
  resumed_theta, resumed_rows = _train(_config(tmp_path / "parts"))
  np.testing.assert_array_equal(resumed_theta, theta)
  assert resumed_rows == rows
  assert [row["outer_step"] for row in rows] == list(range(1, 11))


def test_a_finished_run_is_continued_by_more_steps(tmp_path):
  theta, _ = _train(_config(tmp_path / "long", outer_steps=14))
  _train(_config(tmp_path / "short"))
  continued, _ = _train(_config(tmp_path / "short", outer_steps=14))
  np.testing.assert_array_equal(continued, theta)
  before = _snapshot(tmp_path)
  with pytest.raises(UserError, match="--outer_steps=5 is less than the 14"):
    _train(_config(tmp_path / "short", outer_steps=5))
  assert _snapshot(tmp_path) == before


def test_fallback_to_an_older_checkpoint_rewinds_the_rows(tmp_path):
  theta, rows = _train(_config(tmp_path))
  newest = tmp_path / "checkpoints" / "step-00000010.safetensors"
  newest.write_bytes(newest.read_bytes()[:-1])
  with run_folder.open_run(_config(tmp_path)) as run:
    assert run.restore(START)[0] == 8
    assert run.metrics.read() == rows[:8]
  np.testing.assert_array_equal(_train(_config(tmp_path))[0], theta)


def test_a_refusal_leaves_damaged_checkpoints_where_they_are(tmp_path):
  config = _config(tmp_path, outer_steps=12)
  _train(config)
  newest = tmp_path / "checkpoints" / "step-00000012.safetensors"
  newest.write_bytes(newest.read_bytes()[:-1])
  before = _snapshot(tmp_path)
  with (
    run_folder.open_run(_config(tmp_path, outer_steps=5)) as run,
    pytest.raises(UserError, match="--outer_steps=5 is less than the 8"),
  ):
    run.restore(START)
  assert _snapshot(tmp_path) == before


@pytest.mark.parametrize("what", ["append", "append_validation", "save"])
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, monkeypatch, what):
  theta, rows = _train(_config(tmp_path / "whole"))
  _train(_config(tmp_path / "run"), until=6)

  def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")

  with run_folder.open_run(_config(tmp_path / "run")) as run:
    run.restore(START)
    with monkeypatch.context() as patch:
      patch.setattr(os, "fsync", full)
      patch.setattr(json_lines.JsonLines, "append", full)
      arguments = (5, START) if what == "save" else ({"outer_step": 5},)
      with pytest.raises(UserError, match=r"No space left.*make room.*again"):
        getattr(run, what)(*arguments)
  resumed, resumed_rows = _train(_config(tmp_path / "run"))
  np.testing.assert_array_equal(resumed, theta)
  assert resumed_rows == rows


def test_settings_that_shape_the_numbers_may_not_change(tmp_path):
  _train(_config(tmp_path))
  before = _snapshot(tmp_path)
  with pytest.raises(UserError) as caught:
    run_folder.open_run(_config(tmp_path, sigma=0.5, seed=9, log_every=3))
  text = str(caught.value)
  assert "--sigma=0.5 instead of 0.01" in text
  assert "--seed=9 instead of 0" in text
  assert "log_every" not in text
  assert _snapshot(tmp_path) == before


def test_a_start_without_any_work_binds_nobody(tmp_path):
  with run_folder.open_run(_config(tmp_path), command=["wrong"]):
    pass
  config = _config(tmp_path, sigma=0.5)
  with run_folder.open_run(config, command=["right"]) as run:
    assert run_record.read_config(tmp_path) == config
    assert run.restore(START) is None
    run.append({"outer_step": 1})
  # One row is work, though it has no checkpoint.
  with pytest.raises(UserError, match=r"--sigma=0\.01 instead of 0\.5"):
    run_folder.open_run(_config(tmp_path))
  environment = json.loads((tmp_path / "environment.json").read_text())
  earlier = [start["command"] for start in environment["earlier_starts"]]
  assert earlier == [["wrong"]] and environment["command"] == ["right"]


def test_other_settings_may_change_and_are_recorded(tmp_path):
  _train(_config(tmp_path))
  config = _config(tmp_path, log_every=3, eval_seeds=2, evaluate=False)
  with run_folder.open_run(config, command=["again"]) as run:
    run.restore(START)
  assert run_record.read_config(tmp_path) == config
  environment = json.loads((tmp_path / "environment.json").read_text())
  assert environment["command"] == ["again"]
  earlier = [start["command"] for start in environment["earlier_starts"]]
  assert earlier == [["train"]]


def test_rows_without_an_outer_step_are_dropped(tmp_path):
  _, rows = _train(_config(tmp_path))
  with (tmp_path / "metrics.jsonl").open("a") as file:
    file.write('{"outer_step": "3"}\n{"outer_step": null}\n{"loss": 1}\n')
    file.write('{"outer_step": true}\n{"outer_step": 2.5}\n')
    file.write("[" * 100_000 + "\n")
  assert _train(_config(tmp_path))[1] == rows


@pytest.mark.parametrize("text", ['{"earlier_starts": 3}', "{", "[]", ""])
def test_a_damaged_environment_does_not_stop_a_run(tmp_path, text):
  _train(_config(tmp_path))
  (tmp_path / "environment.json").write_text(text)
  _train(_config(tmp_path))
  environment = json.loads((tmp_path / "environment.json").read_text())
  assert environment["command"] == ["train"]
  assert isinstance(environment["earlier_starts"], list)


def _delete_checkpoints(folder):
  for file in (folder / "checkpoints").iterdir():
    file.unlink()
  (folder / "checkpoints").rmdir()


@pytest.mark.parametrize("left", ["10 outer steps", "theta.safetensors"])
def test_a_run_without_its_checkpoints_is_not_begun_anew(tmp_path, left):
  config = _config(tmp_path, checkpoint_every=4)
  _train(config)
  _delete_checkpoints(tmp_path)
  if left == "theta.safetensors":
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / left).write_bytes(b"precious")
  before = _snapshot(tmp_path)
  with pytest.raises(UserError, match=f"has {left} but no checkpoint"):
    _train(config)
  assert _snapshot(tmp_path) == before


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path):
  _train(_config(tmp_path / "run", checkpoint_every=4), until=3)
  # Weights of no outer steps never had a checkpoint.
  optimizer = flt_lopt.OptimizerConfig()
  theta = flt_lopt.LearnedOptimizer(optimizer).init(jax.random.key(0))
  file = tmp_path / "run" / "theta.safetensors"
  flt_lopt.save(file, optimizer, theta, {"outer_steps": 0})
  # What counts is the distance the killed run had.
  config = _config(tmp_path / "run", checkpoint_every=2)
  with run_folder.open_run(config) as run:
    assert run.restore(START) is None
    assert run.metrics.read() == []


def test_weights_of_no_outer_steps_are_not_replaced_by_other_settings(tmp_path):
  with run_folder.open_run(_config(tmp_path)) as run:
    run.restore(START)
  optimizer = flt_lopt.OptimizerConfig()
  theta = flt_lopt.LearnedOptimizer(optimizer).init(jax.random.key(0))
  file = tmp_path / "theta.safetensors"
  flt_lopt.save(file, optimizer, theta, {"outer_steps": 0})
  before = _snapshot(tmp_path)
  with pytest.raises(UserError, match="sigma"):
    run_folder.open_run(_config(tmp_path, sigma=0.5))
  assert _snapshot(tmp_path) == before
  with run_folder.open_run(_config(tmp_path, outer_steps=50)) as run:
    assert run.restore(START) is None  # The same run may go on.


def test_one_process_at_a_time(tmp_path):
  with run_folder.open_run(_config(tmp_path)):
    before = _snapshot(tmp_path)
    with pytest.raises(UserError, match=f"in use .*process {os.getpid()}"):
      run_folder.open_run(_config(tmp_path))
    assert _snapshot(tmp_path) == before
  run_folder.open_run(_config(tmp_path)).close()


def test_a_killed_process_leaves_no_lock(tmp_path):
  code = (
    "import pathlib, sys, time; from meta_train.run import locks; "
    "lock = locks.acquire(pathlib.Path(sys.argv[1]), what='it'); "
    "print('locked', flush=True); time.sleep(60)"
  )
  child = subprocess.Popen(
    [sys.executable, "-c", code, str(tmp_path / ".lock")],
    stdout=subprocess.PIPE,
    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
  )
  try:
    assert child.stdout.readline() == b"locked\n"
    with pytest.raises(UserError, match=f"process {child.pid}"):
      run_folder.open_run(_config(tmp_path))
  finally:
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
  run_folder.open_run(_config(tmp_path)).close()


def test_a_foreign_folder_is_refused_and_untouched(tmp_path):
  (tmp_path / "thesis.tex").write_text("years of work")
  before = _snapshot(tmp_path)
  with pytest.raises(UserError, match=r"not empty and holds no run .*thesis"):
    run_folder.open_run(_config(tmp_path))
  assert _snapshot(tmp_path) == before


@pytest.mark.parametrize(
  "text, words",
  [
    ("{}", "is not the config.json of a run"),
    ("[1]", "is not the file of a run"),
    ("{", "cannot be read"),
    ("[" * 100_000, "cannot be read"),
    (
      '{"kind": "flt_lopt run", "version": 1, "config": {"tempo": 1}}',
      r"another version of flt_lopt \(it sets tempo\)",
    ),
    ('{"kind": "flt_lopt run", "version": 2, "config": {}}', "another version"),
  ],
)
def test_a_foreign_or_damaged_config_is_refused(tmp_path, text, words):
  (tmp_path / "config.json").write_text(text)
  with pytest.raises(UserError, match=words):
    run_folder.open_run(_config(tmp_path))
  assert (tmp_path / "config.json").read_text() == text


def test_paths_that_cannot_be_folders_are_refused(tmp_path):
  (tmp_path / "file").write_text("precious")
  for path in (tmp_path / "file", tmp_path / "file" / "run"):
    with pytest.raises(UserError, match="is a file or lies beneath one"):
      run_folder.open_run(_config(path))
  assert (tmp_path / "file").read_text() == "precious"
  with pytest.raises(UserError, match="cannot be written"):
    run_folder.open_run(_config("/proc/no_such_folder/run"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_refused(tmp_path):
  tmp_path.chmod(0o500)
  with pytest.raises(UserError, match="cannot be written"):
    run_folder.open_run(_config(tmp_path / "run"))


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_read_only_folder_is_refused_in_one_line(
  tmp_path, monkeypatch, number
):
  _train(_config(tmp_path), until=6)
  before = _snapshot(tmp_path)
  opened = os.open

  def read_only(path, flags, *rest, **options):
    if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
      raise OSError(number, os.strerror(number))
    return opened(path, flags, *rest, **options)

  with monkeypatch.context() as patch:
    patch.setattr(os, "open", read_only)
    with pytest.raises(
      UserError, match=r"cannot be written .*another --run_dir"
    ):
      run_folder.open_run(_config(tmp_path))
    with pytest.raises(UserError, match="cannot be written"):
      run_folder.open_run(_config(tmp_path / "other"))
  (tmp_path / "other").rmdir()
  assert _snapshot(tmp_path) == before


def test_a_start_killed_before_its_config_can_be_repeated(tmp_path):
  (tmp_path / ".lock").write_text("1\n")
  (tmp_path / ".config.json.1.partial").write_text("{")
  run_folder.open_run(_config(tmp_path)).close()
  assert not (tmp_path / ".config.json.1.partial").exists()


def test_rows_hold_numbers_of_every_kind(tmp_path):
  rows = json_lines.JsonLines(tmp_path / "rows.jsonl")
  rows.append(a=jnp.float32(0.5), b=np.int64(2), c=float("nan"), d=[1, {}])
  assert rows.read() == [{"a": 0.5, "b": 2, "c": None, "d": [1, {}]}]
  rows.close()
