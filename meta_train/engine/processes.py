"""The processes of one run: who they are, and how they talk.

`jax.distributed` brings the processes together: it counts them, numbers them,
and knows clusters. Where they have been told who they are, they meet before
that, see `meta_train.engine.meeting`. What they then tell each other, a few
kilobytes an outer step, goes through process 0 over TCP, and not through a
collective operation of XLA, for three reasons: every process gets the same
bytes in the same order, so that the mean of the gradients, and with it theta,
is the same everywhere to the last bit; whoever loses a peer can say so and end
in order, where `jax.distributed` aborts it; and it works alike on every
backend.

A process that ends, however it ends, closes its connections, and the others
notice at once. One that hangs, or whose machine or network is gone, no longer
sends the sign of life that is due every few seconds, and counts as lost after
`links.SILENT_S`. One that computes for long does not: threads of its own send
the signs and take in whatever the others say.

Main names: `Group`, `join`, `LostProcessError`.
"""

import contextlib
import hmac
import json
import secrets
import socket
from collections.abc import Sequence
from typing import Any

import jax

from meta_train.engine import links, meeting
from meta_train.engine.links import LENGTH, Link
from meta_train.errors import UserError

#: How long `jax.distributed` may take once all processes are there.
_JAX_S = 60
_ADDRESS = "flt_lopt/address"


class LostProcessError(UserError):
  """Another process of the run has ended or cannot be reached."""

  def __init__(self, other: int, size: int):
    super().__init__(
      f"process {other} of {size} has ended or cannot be reached, so this one "
      "stops too; the same command on every machine continues from the last "
      "checkpoint, if there is one"
    )


class Group:
  """All processes of a run, seen from one of them.

  Attributes:
    rank: number of this process.
    size: number of processes.
  """

  def __init__(
    self,
    rank: int = 0,
    size: int = 1,
    connections: Sequence[socket.socket] = (),
  ):
    """Makes a group; `join` does so for a run. Without arguments: alone.

    Args:
      rank: number of this process.
      size: number of processes.
      connections: of process 0 those to 1, 2, ...; of the others the one to
        process 0.
    """
    self.rank = rank
    self.size = size
    self._links = [Link(connection) for connection in connections]

  def gather(self, data: bytes) -> list[bytes]:
    """Returns everybody's data by rank on process 0, and [] elsewhere."""
    if self.rank:
      self._send(0, data)
      return []
    return [data, *(self._receive(rank) for rank in range(1, self.size))]

  def scatter(self, parts: Sequence[bytes]) -> bytes:
    """Returns this process's part of what process 0 gives; one for each."""
    if self.rank:
      return self._receive(0)
    for rank in range(1, self.size):
      self._send(rank, parts[rank])
    return parts[0]

  def all_gather(self, data: bytes) -> list[bytes]:
    """Returns everybody's data by rank, on every process."""
    if self.size == 1:
      return [data]
    parts = self.gather(data)
    if self.rank:
      return _split(self.scatter(()))
    joined = b"".join(LENGTH.pack(len(part)) + part for part in parts)
    self.scatter([joined] * self.size)
    return parts

  def share(self, count: int) -> range:
    """Returns which of `count` things are this process's; `size` divides it."""
    ours = count // self.size
    return range(self.rank * ours, (self.rank + 1) * ours)

  def agree(self, settings: dict[str, Any]) -> None:
    """Checks that all processes have the same settings.

    Raises:
      UserError: they don't; it names the first that differ.
    """
    theirs = self.all_gather(json.dumps(settings).encode())
    first = json.loads(theirs[0])
    for rank, text in enumerate(theirs):
      other = json.loads(text)
      differing = [
        f"--{name}={other.get(name)} instead of {value}"
        for name, value in first.items()
        if other.get(name) != value
      ]
      if differing or set(other) != set(first):
        raise UserError(
          f"process {rank} was started with other settings than process 0 "
          f"({', '.join(differing) or 'another version of flt_lopt'}); give "
          "all the same command, but for --process_id"
        )

  def any(self, ours: bool) -> bool:
    """Returns whether it is true in any process, in all of them alike."""
    return b"1" in self.all_gather(b"1" if ours else b"0")

  def close(self) -> None:
    """Closes the connections; the others then find this process gone."""
    for link in self._links:
      link.close()

  def _send(self, other: int, data: bytes) -> None:
    try:
      self._link(other).send(data)
    except OSError as error:
      raise LostProcessError(other, self.size) from error

  def _receive(self, other: int) -> bytes:
    try:
      return self._link(other).receive()
    except OSError as error:
      raise LostProcessError(other, self.size) from error

  def _link(self, other: int) -> Link:
    return self._links[other - 1 if self.rank == 0 else 0]


def _split(joined: bytes) -> list[bytes]:
  parts = []
  while joined:
    (length,) = LENGTH.unpack_from(joined)
    end = LENGTH.size + length
    parts.append(joined[LENGTH.size : end])
    joined = joined[end:]
  return parts


def join(address: str, num_processes: int, process_id: int) -> Group:
  """Starts `jax.distributed` and connects to the run's other processes.

  Args:
    address: host:port of process 0; empty: as jax detects.
    num_processes: how many there are; 0: as jax detects; 1: only this one,
      whatever jax would detect.
    process_id: number of this one; -1: as jax detects.

  Returns:
    The group; of one process where nothing is given or detected.

  Raises:
    UserError: the arguments contradict each other or those of other
      processes, or not all have come within `meeting.START_S`.
  """
  if num_processes == 1:
    return Group()
  _check(address, num_processes, process_id)
  told = bool(address and num_processes and process_id >= 0)
  if told:
    meeting.meet(address, num_processes, process_id)
  limit_s = _JAX_S if told else meeting.START_S
  # Or it would take SIGTERM from the loop, which saves then.
  jax.config.update("jax_enable_preemption_service", False)
  try:
    jax.distributed.initialize(
      address or None,
      num_processes or None,
      None if process_id < 0 else process_id,
      initialization_timeout=limit_s,
    )
  except ValueError as error:
    if not (address or num_processes or process_id >= 0):
      return Group()  # No cluster.
    raise UserError(
      f"jax cannot tell the processes apart ({error}); give all of "
      "--coordinator_address, --num_processes and --process_id"
    ) from error
  except RuntimeError as error:
    if "before any JAX calls" in str(error) and not (address or num_processes):
      return Group()  # Inside a program that has used jax, as tests do.
    raise UserError(
      f"the processes did not come together within {limit_s} s ({error}); "
      "start the same command, each with its own --process_id, on all machines"
    ) from error
  rank, size = jax.process_index(), jax.process_count()
  connections = _connect(rank, size)
  # All have met. From here on it would only abort those that lose a peer.
  jax.distributed.shutdown()
  return Group(rank, size, connections)


def _check(address: str, num_processes: int, process_id: int) -> None:
  if address:
    meeting.host_and_port(address)
  if num_processes and process_id >= num_processes:
    raise UserError(
      f"--process_id={process_id} must be less than --num_processes="
      f"{num_processes}; they count from 0"
    )


def _connect(rank: int, size: int) -> list[socket.socket]:
  # Not public, but the only channel that is there on every kind of cluster.
  from jax._src import distributed

  state = distributed.global_state
  client, address = state.client, state.coordinator_address
  assert client is not None and address is not None
  if rank == 0:
    token = secrets.token_hex(16)
    with links.listen(0, size) as server:
      server.settimeout(meeting.START_S)
      port = server.getsockname()[1]
      client.key_value_set(_ADDRESS, f"{port} {token}")
      return _accept(server, size, token.encode())
  given = client.blocking_key_value_get(_ADDRESS, 1000 * meeting.START_S)
  port, token = given.split()
  host, _ = meeting.host_and_port(address)
  try:
    link = socket.create_connection((host, int(port)), timeout=meeting.START_S)
  except OSError as error:
    raise LostProcessError(0, size) from error
  link.sendall(token.encode() + LENGTH.pack(rank))
  return [link]


def _accept(server: socket.socket, size: int, token: bytes):
  found: dict[int, socket.socket] = {}
  while len(found) < size - 1:
    try:
      link, _ = server.accept()
    except TimeoutError:
      missing = sorted(set(range(1, size)) - set(found))
      raise LostProcessError(missing[0], size) from None
    # Anybody may connect, and only the run's own know the token.
    link.settimeout(10)
    with contextlib.suppress(OSError):
      hello = links.read(link, len(token) + LENGTH.size)
      (rank,) = LENGTH.unpack(hello[len(token) :])
      if hmac.compare_digest(hello[: len(token)], token) and 0 < rank < size:
        found[rank] = link
        continue
    link.close()
  return [found[rank] for rank in range(1, size)]
