"""Files that are either wholly written or not there at all.

The bytes go to a temporary name in the same folder, are flushed to the disk,
and take their real name by a rename, which POSIX makes atomic. A process that
is killed in between leaves the former file as it was, and at most a temporary
file that `remove_leftovers` deletes.

Main names: `write_bytes`, `remove_leftovers`.
"""

import os
import pathlib

_SUFFIX = ".partial"


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
  """Write a file under a temporary name, fsync it and rename it.

  Args:
    path: where to write; an existing file is replaced in one step.
    data: the whole content.

  Raises:
    OSError: the folder is missing, full or not writable. An existing file
      at `path` is untouched then.
  """
  path = pathlib.Path(path)
  partial = path.with_name(f".{path.name}.{os.getpid()}{_SUFFIX}")
  # O_EXCL: never follow a link or reuse a file that somebody put there.
  partial.unlink(missing_ok=True)
  descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
  try:
    with os.fdopen(descriptor, "wb") as file:
      file.write(data)
      file.flush()
      os.fsync(file.fileno())
    os.replace(partial, path)
  except BaseException:
    partial.unlink(missing_ok=True)
    raise
  _sync_folder(path.parent)


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
  """Delete the temporary files that killed processes left in a folder."""
  for leftover in pathlib.Path(folder).glob(f".*{_SUFFIX}"):
    leftover.unlink(missing_ok=True)


def is_leftover(name: str) -> bool:
  """Tell whether a file name is one of `write_bytes`'s temporary names."""
  return name.startswith(".") and name.endswith(_SUFFIX)


def _sync_folder(folder: pathlib.Path) -> None:
  """Make the rename itself survive a power failure, where possible."""
  try:
    descriptor = os.open(folder, os.O_RDONLY)
  except OSError:  # Windows opens no folders.
    return
  try:
    os.fsync(descriptor)
  except OSError:  # Some network file systems sync no folders.
    pass
  finally:
    os.close(descriptor)
