"""Where processes that know their numbers wait for each other.

`jax.distributed` waits in C++, where no signal is heard, and aborts a process
whose peers don't come. So the processes meet before it starts: process 0
listens at the coordinator's address, and each of the others tells it there how
many processes it was told of and which one it is. Once all have come, process
0 leaves the address to `jax.distributed` and lets the others go on. Nobody
waits for longer than a second without hearing signals, and whoever is missing,
or is there twice, is named by all.

Main names: `meet`, `host_and_port`.
"""

import contextlib
import select
import socket
import struct
import time

from meta_train.engine import links
from meta_train.errors import UserError
from meta_train.terminal import say

#: How long processes wait for each other at the start.
START_S = 300
#: After how long a process says for whom it waits.
_QUIET_S = 5.0
#: How long a process may take to say who it is, and how often others look.
_WORD_S, _PAUSE_S = 1.0, 0.2
#: What comes first in either direction, since anybody may connect.
_MAGIC = b"flt_lopt"
_WHO = struct.Struct("<QQ")


def host_and_port(address: str) -> tuple[str, int]:
  """Returns the two parts of the coordinator's address.

  Args:
    address: host:port, where an IPv6 address has brackets.

  Raises:
    UserError: it is something else.
  """
  host, _, port = address.rpartition(":")
  if not (host and port.isdecimal() and 0 < int(port) < 2**16):
    raise UserError(
      f"--coordinator_address={address} is not host:port; give a name of the "
      "machine of process 0 and a free port there, as in node0:8476"
    )
  return host.strip("[]"), int(port)


def meet(address: str, size: int, rank: int) -> None:
  """Waits until all processes have come; the port is free then.

  Args:
    address: host:port of process 0.
    size: number of processes.
    rank: number of this one.

  Raises:
    UserError: not all have come within `START_S`, a number was given to two
      of them, or they were told of different numbers of processes.
  """
  if rank:
    _attend(address, size, rank)
  else:
    _Host(address, size).wait()


class _Host:
  """Process 0, with the connections of those that have come."""

  def __init__(self, address: str, size: int):
    self._address = address
    self._size = size
    self._present: dict[int, socket.socket] = {}

  def wait(self) -> None:
    clock = _Clock()
    try:
      with self._listen() as server:
        while len(self._present) < self._size - 1:
          if clock.is_over():
            raise UserError(
              f"{_names(self._missing())} did not come to {self._address} "
              f"within {START_S} s; start the same command, each with its own "
              "--process_id, on all machines"
            )
          clock.say_once(
            f"waiting for {_names(self._missing())} at {self._address}"
          )
          self._hear(server)
      self._tell("")  # The port is free: they may go on.
    except UserError as error:
      self._tell(str(error))
      raise
    finally:
      for link in self._present.values():
        link.close()

  def _missing(self) -> list[int]:
    return sorted(set(range(1, self._size)) - set(self._present))

  def _listen(self) -> socket.socket:
    _, port = host_and_port(self._address)
    try:
      return links.listen(port, self._size)
    except OSError as error:
      raise UserError(
        f"process 0 cannot listen at {self._address} "
        f"({error.strerror or error}): another process 0 or another program is "
        "there; give each process its own --process_id, and "
        "--coordinator_address a free port"
      ) from error

  def _hear(self, server: socket.socket) -> None:
    """Takes in what comes next, if anything does: processes, and their ends."""
    ready, _, _ = select.select(
      [server, *self._present.values()], [], [], _PAUSE_S
    )
    # Having said who they are, they say nothing more until they end.
    gone = [rank for rank, link in self._present.items() if link in ready]
    for rank in gone:
      self._present.pop(rank).close()
    if server in ready:
      with contextlib.suppress(OSError):
        self._admit(server.accept()[0])

  def _admit(self, link: socket.socket) -> None:
    link.settimeout(_WORD_S)
    try:
      head = links.read(link, len(_MAGIC) + _WHO.size)
    except OSError:
      head = b""
    if not head.startswith(_MAGIC):
      link.close()
      return
    size, rank = _WHO.unpack(head[len(_MAGIC) :])
    text = ""
    if size != self._size:
      text = (
        f"process {rank} was started with --num_processes={size}, and process "
        f"0 with --num_processes={self._size}; give all the same"
      )
    elif rank in self._present:
      text = (
        f"two processes were started with --process_id={rank}, and none yet "
        f"as {_names(self._missing())}; give each its own number from 0 to "
        f"{size - 1}"
      )
    if text:
      _answer(link, text)
      link.close()
      raise UserError(text)
    self._present[rank] = link

  def _tell(self, text: str) -> None:
    for link in self._present.values():
      _answer(link, text)


def _attend(address: str, size: int, rank: int) -> None:
  """Waits for process 0, and until it has seen all others."""
  clock = _Clock()
  reason = "nobody is there"
  while not clock.is_over():
    clock.say_once(f"waiting for process 0 at {address}")
    try:
      with socket.create_connection(host_and_port(address), _WORD_S) as link:
        link.sendall(_MAGIC + _WHO.pack(size, rank))
        text = _heard(link)
    except OSError as error:
      # Not there yet, or not any more.
      reason = str(error.strerror or error)
      time.sleep(_PAUSE_S)
      continue
    if text:
      raise UserError(text)
    return
  raise UserError(
    f"process 0 was not found at {address} within {START_S} s ({reason}); "
    "start the same command with --process_id=0 there, and give all the same "
    "--coordinator_address"
  )


def _heard(link: socket.socket) -> str:
  """Returns what process 0 says in the end; empty: all have come.

  Raises:
    OSError: it has ended, says nothing for longer than it may wait, or is
      something else.
  """
  clock = _Clock(2 * START_S)
  while not select.select([link], [], [], _PAUSE_S)[0]:
    clock.say_once("waiting until all processes have come")
    if clock.is_over():
      raise TimeoutError("it is silent")
  head = links.read(link, len(_MAGIC) + links.LENGTH.size)
  if not head.startswith(_MAGIC):
    raise ConnectionError("another program is there")
  (length,) = links.LENGTH.unpack(head[len(_MAGIC) :])
  return links.read(link, length).decode()


def _answer(link: socket.socket, text: str) -> None:
  data = text.encode()
  with contextlib.suppress(OSError):  # Whoever is gone needs no answer.
    link.sendall(_MAGIC + links.LENGTH.pack(len(data)) + data)


class _Clock:
  """How long a process has waited."""

  def __init__(self, limit_s: float | None = None):
    self._limit_s = START_S if limit_s is None else limit_s
    self._start_s = time.monotonic()
    self._said = False

  def is_over(self) -> bool:
    return time.monotonic() - self._start_s > self._limit_s

  def say_once(self, text: str) -> None:
    if not self._said and time.monotonic() - self._start_s > _QUIET_S:
      self._said = True
      say(text)


def _names(ranks: list[int]) -> str:
  shown = ", ".join(map(str, ranks[:8]))
  more = f" and {len(ranks) - 8} more" if len(ranks) > 8 else ""
  return f"process{'es' if len(ranks) > 1 else ''} {shown}{more}"
