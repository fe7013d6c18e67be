"""Processes wait for each other, and say for whom, within a stated time."""

import concurrent.futures
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import tiny_runs

from meta_train.engine import meeting, processes
from meta_train.errors import UserError


@pytest.fixture
def address():
  return f"localhost:{tiny_runs.free_port()}"


def _meet(address, *who):
  """Lets processes of (size, rank) meet at once; returns what ended each."""

  def attempt(each):
    try:
      meeting.meet(address, *each)
    except UserError as error:
      return str(error)

  with concurrent.futures.ThreadPoolExecutor(len(who)) as pool:
    return list(pool.map(attempt, who))


def test_all_come_and_the_port_is_free_then(address):
  assert _meet(address, (3, 2), (3, 0), (3, 1)) == [None] * 3
  _, port = meeting.host_and_port(address)
  socket.create_server(("localhost", port)).close()


def test_whoever_is_missing_is_named_in_time(address, monkeypatch, capsys):
  monkeypatch.setattr(meeting, "START_S", 1.0)
  monkeypatch.setattr(meeting, "_QUIET_S", 0.3)
  start_s = time.monotonic()
  texts = _meet(address, (4, 0), (4, 2))
  assert texts[0] == texts[1]
  assert f"processes 1, 3 did not come to {address} within 1.0 s" in texts[0]
  said = capsys.readouterr().err
  assert f"waiting for processes 1, 3 at {address}" in said
  assert "waiting until all processes have come" in said
  (text,) = _meet(address, (2, 1))
  assert f"process 0 was not found at {address} within 1.0 s" in text
  assert f"waiting for process 0 at {address}" in capsys.readouterr().err
  assert time.monotonic() - start_s < 10


def test_the_same_number_twice_ends_all(address):
  first, *others = _meet(address, (3, 0), (3, 1), (3, 1))
  assert "two processes were started with --process_id=1" in first
  assert "none yet as process 2" in first
  assert others == [first] * 2


def test_two_processes_0_on_a_machine_are_refused(address, monkeypatch):
  monkeypatch.setattr(meeting, "START_S", 1.0)
  texts = _meet(address, (2, 0), (2, 0))
  refused = [text for text in texts if "cannot listen" in text]
  assert len(refused) == 1
  assert "another process 0 or another program" in refused[0]
  assert any("process 1 did not come" in text for text in texts)


def test_other_numbers_of_processes_are_refused(address):
  texts = _meet(address, (3, 0), (4, 1))
  assert texts[0] == texts[1]
  assert "process 1 was started with --num_processes=4" in texts[0]
  assert "process 0 with --num_processes=3" in texts[0]


def test_one_that_begins_again_and_strangers_do_no_harm(address):
  _, port = meeting.host_and_port(address)
  who = meeting._MAGIC + meeting._WHO.pack(3, 1)
  with concurrent.futures.ThreadPoolExecutor(3) as pool:
    first = pool.submit(meeting.meet, address, 3, 0)
    while True:
      try:
        stranger = socket.create_connection(("localhost", port))
        break
      except OSError:
        time.sleep(0.05)
    stranger.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    # Process 1, stopped while it waits.
    former = socket.create_connection(("localhost", port))
    former.sendall(who)
    time.sleep(0.3)
    former.close()
    others = [pool.submit(meeting.meet, address, 3, rank) for rank in (1, 2)]
    for each in (first, *others):
      assert each.result(20) is None
  stranger.close()


def test_another_program_at_the_address_is_not_process_0(monkeypatch):
  monkeypatch.setattr(meeting, "START_S", 1.0)
  with socket.create_server(("localhost", 0)) as server:
    port = server.getsockname()[1]
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

      def greet():
        server.accept()[0].sendall(b"220 mail.example.org ESMTP\r\n")

      pool.submit(greet)
      with pytest.raises(UserError, match=r"process 0 was not found.*1\.0 s"):
        processes.join(f"localhost:{port}", 2, 1)


_PATIENCE = (
  "import sys; from meta_train.engine import meeting; "
  "meeting.START_S, meeting._QUIET_S = {limit_s}, 0.2; "
  "from meta_train import main; sys.exit(main.main())"
)


def _alone(folder, rank, limit_s, port=None):
  return subprocess.Popen(
    [
      *(sys.executable, "-c", _PATIENCE.format(limit_s=limit_s)),
      *(f"--process_id={rank}", "--num_processes=2"),
      f"--coordinator_address=localhost:{port or tiny_runs.free_port()}",
    ],
    cwd=folder,
    stderr=subprocess.PIPE,
    text=True,
    env=os.environ
    | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(tiny_runs.ROOT)},
  )


def _ended(process):
  """Waits for the end as by a mistake; returns the last line said."""
  _, said = process.communicate(timeout=tiny_runs.LIMIT_S)
  assert process.returncode == 2, said
  *waiting, line = said.splitlines()
  assert all(other.startswith("waiting for process") for other in waiting)
  return line


def test_lone_processes_and_doubles_end_in_one_line(tmp_path):
  port = tiny_runs.free_port()
  first, second = (_alone(tmp_path, rank, 2) for rank in (0, 1))
  twice = [_alone(tmp_path, 0, 10, port) for _ in range(2)]
  assert re.match("meta_train: process 1 did not .* 2 s", _ended(first))
  assert re.match("meta_train: process 0 was not .* 2 s", _ended(second))
  lines = sorted(map(_ended, twice))
  assert lines[0].startswith("meta_train: process 0 cannot listen")
  assert lines[1].startswith("meta_train: process 1 did not come")


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_waiting_process_ends_at_once_when_told_to(tmp_path):
  with _alone(tmp_path, 0, 300) as process:
    assert process.stderr.readline().startswith("waiting for process 1")
    start_s = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143
    assert time.monotonic() - start_s < 10
    assert "terminated; " in process.stderr.read()
