"""JSON lines: one measured row to a line, read back without surprises.

Idea: rows are written once, and tables and pictures are made from them. So a
file of rows is replaced as a whole and never seen half written; a reader
that does meet a damaged line counts it and says so; and what JSON has no word
for (NaN, infinity) becomes null on the way out.

Names: `write_rows`, `read_rows`, `read_json`, `write_json`, `finite`.
"""

import gzip
import json
import math
import os
import pathlib
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from flt_lopt import _atomic_file

Row = dict[str, Any]


class Rows(NamedTuple):
  """What a file of JSON lines held.

  Attributes:
    rows: the whole rows, in order.
    problems: one sentence for each thing that was wrong with the file.
  """

  rows: list[Row]
  problems: list[str]


def finite(value: Any) -> Any:
  """Returns the value with every number that JSON lacks replaced by None.

  Args:
    value: nested dicts, lists, tuples, numbers, strings, booleans, None.

  Returns:
    The same nesting; NaN and infinities are None.
  """
  if isinstance(value, Mapping):
    return {str(name): finite(item) for name, item in value.items()}
  if isinstance(value, list | tuple):
    return [finite(item) for item in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def _dumps(value: Any, **options) -> str:
  return json.dumps(finite(value), allow_nan=False, **options)


def _loads(text: str) -> Any:
  # Python reads NaN and Infinity, which other writers may have left.
  return json.loads(text, parse_constant=lambda _: None)


def write_text(path: str | os.PathLike, text: str) -> None:
  """Writes a text, replacing the file as a whole.

  Args:
    path: file to write; its folder is made if need be.
    text: its content.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  _atomic_file.write_bytes(path, text.encode())


def write_rows(path: str | os.PathLike, rows: Iterable[Mapping]) -> None:
  """Writes rows as JSON lines, replacing the file as a whole.

  Args:
    path: file to write; packed, if its name ends with `.gz`.
    rows: one JSON object each; numbers that are not finite become null.
  """
  path = pathlib.Path(path)
  if path.suffix != ".gz":
    write_text(path, "".join(_dumps(row) + "\n" for row in rows))
    return
  text = "".join(_dumps(row, separators=(",", ":")) + "\n" for row in rows)
  path.parent.mkdir(parents=True, exist_ok=True)
  # Without the time, so that the same rows are the same file.
  _atomic_file.write_bytes(path, gzip.compress(text.encode(), mtime=0))


def write_json(path: str | os.PathLike, value: Any) -> None:
  """Writes one JSON document, replacing the file as a whole.

  Args:
    path: file to write.
    value: numbers that are not finite become null.
  """
  write_text(path, _dumps(value, indent=1) + "\n")


def read_rows(path: str | os.PathLike, *, required: Iterable[str] = ()) -> Rows:
  """Reads JSON lines; tells what is missing or damaged.

  Args:
    path: file of JSON lines; it need not exist. If there is one of this name
      and `.gz` in its place, that is read.
    required: fields without which a row is of no use.

  Returns:
    The rows that are whole, and a sentence for each problem.
  """
  path = pathlib.Path(path)
  packed = path.with_name(f"{path.name}.gz")
  if not path.exists() and not packed.exists():
    return Rows([], [f"{path.name} is missing."])
  rows, problems, required = [], [], tuple(required)
  try:
    content = (
      path.read_bytes()
      if path.exists()
      else gzip.decompress(packed.read_bytes())
    )
  except (EOFError, OSError, zlib.error):
    return Rows([], [f"{packed.name} is damaged and was left out."])
  # A line that was cut may end in the middle of a character.
  text = content.decode(encoding="utf-8", errors="replace")
  for number, line in enumerate(text.split("\n"), start=1):
    if not line.strip():
      continue
    where = f"{path.name}, line {number}"
    try:
      row = _loads(line)
    except ValueError:
      problems.append(f"{where} is half written and was left out.")
      continue
    if not isinstance(row, dict):
      problems.append(f"{where} is no JSON object and was left out.")
      continue
    absent = [name for name in required if name not in row]
    if absent:
      problems.append(f"{where} lacks {', '.join(absent)} and was left out.")
      continue
    rows.append(row)
  if not rows and not problems:
    problems.append(f"{path.name} holds no rows.")
  return Rows(rows, problems)


def read_json(
  path: str | os.PathLike, *, required: Iterable[str] = ()
) -> tuple[Row | None, list[str]]:
  """Reads one JSON object; tells when it is missing or damaged.

  Args:
    path: file to read; it need not exist.
    required: fields without which it is of no use.

  Returns:
    The object, `None` if there is none, and a sentence for each problem.
  """
  path = pathlib.Path(path)
  if not path.exists():
    return None, [f"{path.name} is missing."]
  try:
    value = _loads(path.read_text(encoding="utf-8", errors="replace"))
  except ValueError:
    value = None
  if not isinstance(value, dict) or not set(required) <= set(value):
    return None, [f"{path.name} is damaged and was left out."]
  return value, []
