"""The rows of metrics.jsonl once more, as a table for spreadsheets.

The table is written beside the rows as they come; a start writes it anew from
them, so that it never holds more than they do.

Main names: `CsvRows`.
"""

import csv
import io
import pathlib
from collections.abc import Iterable
from typing import Any

from flt_lopt import _atomic_file

Row = dict[str, Any]


class CsvRows:
  """A file with one line per row and one column per name; final.

  Args:
    path: the file; nothing is written before the first row.
  """

  def __init__(self, path: pathlib.Path):
    self.path = path
    self._columns: list[str] = []

  def rewrite(self, rows: Iterable[Row]) -> None:
    """Replaces the file by these rows, or removes it if there are none."""
    rows = list(rows)
    self._columns = list(dict.fromkeys(name for row in rows for name in row))
    if not rows:
      self.path.unlink(missing_ok=True)
      return
    lines = [self._columns, *map(self._values, rows)]
    _atomic_file.write_bytes(self.path, _text(lines).encode())

  def append(self, row: Row) -> None:
    """Writes one row; its names are those of the first one."""
    lines = [self._values(row)]
    if not self._columns:
      self._columns = list(row)
      lines = [self._columns, self._values(row)]
    with self.path.open("a", encoding="utf-8", newline="") as file:
      file.write(_text(lines))

  def _values(self, row: Row) -> list[Any]:
    # NaN and null are an empty field in both forms of the row.
    values = (row.get(name) for name in self._columns)
    return [
      "" if value is None or value != value else value for value in values
    ]


def _text(lines: Iterable[list[Any]]) -> str:
  stream = io.StringIO()
  csv.writer(stream, lineterminator="\n").writerows(lines)
  return stream.getvalue()
