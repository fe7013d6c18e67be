"""Rows of a table as lines of JSON, appended as they come.

A process that is killed leaves at most one broken line, the last, which the
next start removes together with the rows beyond its checkpoint.

Main names: `JsonLines`.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Callable
from typing import IO, Any

from flt_lopt import _atomic_file
from meta_train import rows


class JsonLines:
  """A file of rows.

  Args:
    path: the file; it need not exist. Nothing is written before the first
      row.
  """

  def __init__(self, path: pathlib.Path):
    self.path = path
    self._file: IO[bytes] | None = None

  def append(self, **row: Any) -> None:
    """Writes one row, readable by other processes at once.

    Args:
      **row: anything JSON can hold; zero-dimensional arrays become numbers,
        and numbers that are not finite become null.
    """
    if self._file is None:
      self._file = self.path.open("ab")
    plain = rows.finite({name: _plain(value) for name, value in row.items()})
    text = json.dumps(plain, allow_nan=False)
    self._file.write(text.encode() + b"\n")
    self._file.flush()

  def read(self) -> list[rows.Row]:
    """Returns all whole rows."""
    return [row for _, row in self._lines()]

  def keep(self, wanted: Callable[[rows.Row], bool]) -> None:
    """Removes broken rows and those that `wanted` turns down."""
    self.close()
    if not self.path.exists():
      return
    kept = [line for line, row in self._lines() if wanted(row)]
    text = b"".join(line + b"\n" for line in kept)
    if text != self.path.read_bytes():
      _atomic_file.write_bytes(self.path, text)

  def sync(self) -> None:
    """Waits until the rows so far are on the disk."""
    if self._file is not None:
      os.fsync(self._file.fileno())

  def close(self) -> None:
    """Closes the file; the next row opens it again."""
    if self._file is not None:
      # What could not be written has been told when it was appended.
      with contextlib.suppress(OSError):
        self._file.close()
      self._file = None

  def _lines(self) -> list[tuple[bytes, rows.Row]]:
    if not self.path.exists():
      return []
    lines = []
    for line in self.path.read_bytes().split(b"\n"):
      try:
        row = json.loads(line)
      # An empty line, the one a kill cut short, or a damaged one.
      except (ValueError, RecursionError):
        continue
      if isinstance(row, dict):
        lines.append((line, row))
    return lines


def _plain(value: Any) -> Any:
  return value.item() if getattr(value, "shape", None) == () else value
