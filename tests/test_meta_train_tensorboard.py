"""TensorBoard's rows: those of metrics.jsonl, once, and never a run's end."""

import errno
import json
import struct
import sys

import pytest
import tiny_runs

from meta_train.errors import UserError
from meta_train.run import tensorboard

pytest.importorskip("tensorboardX")


def _events(folder):
  """Returns what is in the only file of events, its checksums checked."""
  from tensorboardX.proto import event_pb2
  from tensorboardX.record_writer import masked_crc32c

  (file,) = (folder / tensorboard.FOLDER).iterdir()
  assert "tfevents" in file.name
  data, events = file.read_bytes(), []
  while data:
    (length,) = struct.unpack("<Q", data[:8])
    body = data[12 : 12 + length]
    sums = struct.unpack("<I", data[8:12]) + struct.unpack(
      "<I", data[12 + length : 16 + length]
    )
    assert sums == (masked_crc32c(data[:8]), masked_crc32c(body))
    events.append(event_pb2.Event.FromString(body))
    data = data[16 + length :]
  assert events[0].file_version == "brain.Event:2"
  return events[1:]


def _numbers(events):
  return {
    (event.step, value.tag): value.simple_value
    for event in events
    for value in event.summary.value
  }


def _numbers_of(rows):
  return {
    (row["outer_step"], name): pytest.approx(value, rel=1e-6)
    for row in rows
    for name, value in row.items()
    if name != "outer_step" and value is not None
  }


def test_events_are_the_rows_however_a_run_was_continued(tmp_path, monkeypatch):
  for steps in (4, 9):
    tiny_runs.run_here(
      tmp_path, monkeypatch, "--tensorboard", f"--outer_steps={steps}"
    )
  run = tmp_path / "run"
  text = (run / "metrics.jsonl").read_text()
  rows = [json.loads(line) for line in text.splitlines()]
  events = _events(run)
  assert [event.step for event in events] == [2, 4, 6, 8, 9]
  assert _numbers(events) == _numbers_of(rows)


def test_rows_are_there_at_once_and_gaps_are_left_out(tmp_path):
  rows = [{"outer_step": 1, "a": 1.5}, {"outer_step": 2, "a": None, "b/c": 2}]
  with tensorboard.open_writer(tmp_path, wanted=True, rows=rows) as write:
    assert _numbers(_events(tmp_path)) == _numbers_of(rows)
    write({"outer_step": 3, "a": 0.25, "b/c": float("nan")})
    rows.append({"outer_step": 3, "a": 0.25})
    assert _numbers(_events(tmp_path)) == _numbers_of(rows)
  with tensorboard.open_writer(tmp_path, wanted=True, rows=rows[:1]):
    assert _numbers(_events(tmp_path)) == _numbers_of(rows[:1])


@pytest.mark.parametrize("at", [0, 1])
def test_what_cannot_be_written_is_a_warning(tmp_path, monkeypatch, caplog, at):
  record, calls = tensorboard._record, []

  def full(data):
    calls.append(data)
    if len(calls) > at:
      raise OSError(errno.ENOSPC, "No space left on device")
    return record(data)

  monkeypatch.setattr(tensorboard, "_record", full)
  with tensorboard.open_writer(tmp_path, wanted=True) as write:
    for step in (1, 2, 3):
      write({"outer_step": step, "a": 1.0})
  assert len(calls) == at + 1
  assert caplog.text.count("No space left on device") == 1


def test_a_missing_package_is_named(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorboardX", None)
  with (
    pytest.raises(UserError, match="pip install"),
    tensorboard.open_writer(tmp_path, wanted=True),
  ):
    pass
