"""A lock on a file, held by one process and freed when that process ends.

Even a killed process lets go of it, so no stale lock is ever left.

Main names: `acquire`, `Lock`.
"""

import os
import pathlib

from meta_train.errors import UserError

try:
  import fcntl
except ImportError:  # Windows has no flock; a run there is not protected.
  fcntl = None  # type: ignore[assignment]


class Lock:
  """A held lock; `acquire` makes it."""

  def __init__(self, descriptor: int):
    self._descriptor: int | None = descriptor

  def release(self) -> None:
    """Lets go of the lock; a second time does nothing."""
    if self._descriptor is not None:
      os.close(self._descriptor)
      self._descriptor = None


def acquire(path: pathlib.Path, *, what: str) -> Lock:
  """Takes the lock or fails at once.

  Args:
    path: the file to lock; it is created, and never deleted.
    what: what the lock protects, for the error.

  Raises:
    UserError: another process holds it.
    OSError: the file cannot be opened.
  """
  descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
  try:
    if fcntl is not None:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
  except BlockingIOError:
    holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
    os.close(descriptor)
    raise UserError(
      f"{what} is in use by another run (process {holder or 'unknown'}); "
      "wait for it, or name another --run_dir"
    ) from None
  except BaseException:
    os.close(descriptor)
    raise
  return Lock(descriptor)
