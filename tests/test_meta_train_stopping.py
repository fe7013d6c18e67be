"""Asked to stop: SIGTERM and Ctrl-C save and say how to go on.

And killed at any moment: see `test_meta_train_resume`.
"""

import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tiny_runs

from meta_train.command import signals
from meta_train.run import progress

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")
STEPS = 750


@pytest.fixture(autouse=True)
def heed_ctrl_c():
  """Undoes what a shell does to programs in its background."""
  old = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, old)


def test_sigterm_and_ctrl_c_save_and_go_on_bit_for_bit(tmp_path, monkeypatch):
  arguments = (f"--outer_steps={STEPS}", "--num_devices=2")
  # Rows and checkpoints that stops fall between.
  arguments += ("--log_every=7", "--checkpoint_every=1000")
  stopped_at = []
  for number, words in (
    (signal.SIGTERM, "terminated; outer step"),
    (signal.SIGINT, "interrupted; outer step"),
  ):
    run = tiny_runs.Run(tmp_path, *arguments)
    run.wait_for(stopped_at[-1] + 1 if stopped_at else 7)
    assert run.send(number) == 128 + number, run.text()
    text = run.text()
    assert words in text and "Traceback" not in text
    assert "continue with: python -m meta_train --task=tiny_task" in text
    steps = [
      int(path.stem[5:]) for path in (run.folder / "checkpoints").iterdir()
    ]
    stopped_at.append(max(steps))
    assert f"outer step {max(steps)} is saved" in text
  assert 7 <= stopped_at[0] < stopped_at[1] < STEPS
  assert any(step % 7 for step in stopped_at)
  resumed, resumed_rows = tiny_runs.run_here(tmp_path, monkeypatch, *arguments)
  whole, rows = tiny_runs.run_here(tmp_path / "whole", monkeypatch, *arguments)
  np.testing.assert_array_equal(resumed, whole)
  assert resumed_rows == rows


def test_ctrl_c_saves_though_nobody_reads_any_more(tmp_path):
  # As in `2>&1 | tee log`, whose tee gets the Ctrl-C too.
  reader, writer = os.pipe()
  arguments = ("--outer_steps=1000000", "--checkpoint_every=1000000")
  run = tiny_runs.Run(tmp_path, *arguments, output=writer)
  os.close(writer)
  run.wait_for(4)
  os.close(reader)
  assert run.send(signal.SIGINT) == 130
  assert list((run.folder / "checkpoints").iterdir())


def test_whoever_stops_reading_gets_no_traceback():
  program = [sys.executable, "-m", "meta_train", "--help"]
  with subprocess.Popen(
    program,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    cwd=tiny_runs.ROOT,
    # Each line is a write of its own.
    env=os.environ | {"PYTHONUNBUFFERED": "1"},
  ) as process:
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


class Broken(io.StringIO):
  """A stream that nobody reads."""

  def __init__(self, terminal=False):
    super().__init__()
    self.isatty = lambda: terminal

  def write(self, text):
    raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_what_cannot_be_said_is_not(monkeypatch):
  for terminal in (False, True):
    stream = Broken(terminal)
    with progress.Progress(total=2, stream=stream, every_s=0.0) as shown:
      shown.note("compiling")
      for step in (1, 2):
        time.sleep(0.3 * terminal)
        shown.update(step, meta_loss=0.5)
  monkeypatch.setattr(sys, "stderr", Broken())
  with signals.terminable(), signals.noted() as asked:
    signal.raise_signal(signal.SIGTERM)
    assert asked.number == signal.SIGTERM


def test_a_first_signal_is_noted_and_a_second_one_acts(capsys):
  with signals.terminable(), pytest.raises(signals.Stopped) as caught:
    with signals.noted() as asked:
      assert asked.number == 0
      signal.raise_signal(signal.SIGTERM)
      assert asked.number == signal.SIGTERM
      assert "once more: at once" in capsys.readouterr().err
      signal.raise_signal(signal.SIGINT)
    raise AssertionError("the second one did nothing")
  assert caught.value.code == 130
  assert str(caught.value).startswith("interrupted; the same command")


def test_outside_of_outer_steps_a_signal_acts_at_once():
  before = signal.getsignal(signal.SIGTERM)
  with pytest.raises(signals.Stopped) as caught, signals.terminable():
    signal.raise_signal(signal.SIGTERM)
  assert caught.value.code == 143
  assert signal.getsignal(signal.SIGTERM) is before


def test_ignored_signals_stay_ignored_and_threads_have_none():
  old = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    with signals.noted() as asked:
      signal.raise_signal(signal.SIGINT)
    assert asked.number == 0
  finally:
    signal.signal(signal.SIGINT, old)
  seen = []

  def work():
    with signals.terminable(), signals.noted() as asked:
      seen.append(asked.number)

  thread = threading.Thread(target=work)
  thread.start()
  thread.join()
  assert seen == [0]
