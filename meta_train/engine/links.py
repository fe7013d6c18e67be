"""Connections between two processes.

A connection is a TCP socket. A link is a connection with signs of life on it,
by which either side tells a process that computes for long from one that is
gone.

Main names: `Link`, `listen`, `read`.
"""

import contextlib
import queue
import socket
import struct
import threading

#: After so long without a sign of life, a process counts as lost.
SILENT_S = 60.0
LENGTH = struct.Struct("<Q")
CHUNK = 2**20
#: In place of a length: a sign of life, to be skipped.
_ALIVE = LENGTH.pack(2**64 - 1)


class Link:
  """A connection to one other process, with signs of life on it.

  What arrives is taken in at once and waits here, so that the other one can
  send however long this one computes. The connection's limit is on silence: on
  waiting for any byte to come, or to go.
  """

  def __init__(self, connection: socket.socket):
    connection.settimeout(SILENT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    self._connection = connection
    self._lock = threading.Lock()
    self._closed = threading.Event()
    self._arrived: queue.SimpleQueue[bytes | OSError] = queue.SimpleQueue()
    for work in (self._live, self._listen):
      threading.Thread(target=work, daemon=True).start()

  def send(self, data: bytes) -> None:
    self._push(LENGTH.pack(len(data)), data)

  def receive(self) -> bytes:
    found = self._arrived.get()
    if isinstance(found, OSError):
      self._arrived.put(found)  # For whoever asks again.
      raise found
    return found

  def close(self) -> None:
    self._closed.set()
    with contextlib.suppress(OSError):
      self._connection.shutdown(socket.SHUT_RDWR)  # Ends `_listen`.
    self._connection.close()

  def _push(self, *parts: bytes) -> None:
    with self._lock:
      for part in parts:
        rest = memoryview(part)
        while rest:  # `sendall` would bound the whole by the limit.
          rest = rest[self._connection.send(rest[:CHUNK]) :]

  def _live(self) -> None:
    while not self._closed.wait(SILENT_S / 10):
      try:
        self._push(_ALIVE)
      except OSError:
        return  # Whoever sends or receives next will find out.

  def _listen(self) -> None:
    try:
      while True:
        head = read(self._connection, LENGTH.size)
        if head != _ALIVE:
          self._arrived.put(read(self._connection, *LENGTH.unpack(head)))
    except OSError as error:
      self._arrived.put(error)


def listen(port: int, size: int) -> socket.socket:
  """Returns a server on a port of all interfaces.

  Args:
    port: its number; 0: any that is free.
    size: how many processes there are.

  Raises:
    OSError: the port is taken, or may not be used.
  """
  if socket.has_dualstack_ipv6():
    # Where IPv6 is switched off, the other way still works.
    with contextlib.suppress(OSError):
      return socket.create_server(
        ("", port),
        family=socket.AF_INET6,
        backlog=size,
        dualstack_ipv6=True,
      )
  return socket.create_server(("", port), backlog=size)


def read(link: socket.socket, length: int) -> bytes:
  """Returns the next `length` bytes.

  Raises:
    OSError: the other side closed the connection, or was silent for longer
      than the connection's limit.
  """
  parts = bytearray()
  while len(parts) < length:
    part = link.recv(min(length - len(parts), CHUNK))
    if not part:
      raise ConnectionResetError("closed")
    parts += part
  return bytes(parts)
