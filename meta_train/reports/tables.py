"""A table as cells of text: for Markdown, CSV and a page.

A reader's cell may hold several numbers, as "1.7 (1.6 to 1.8)" does; a `Cell`
has them apart too, and in CSV each is in a column of its own.

Names: `Table`, `Cell`, `markdown`, `csv_text`.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Cell(str):
  """A cell's text, and the numbers that it tells.

  Args:
    text: for a reader.
    **numbers: by what they are: `value` is in the column's own place, others
      follow it; NaN and `None` are empty.
  """

  numbers: dict[str, float | str | None]

  def __new__(cls, text: str, **numbers: float | str | None) -> "Cell":
    cell = super().__new__(cls, text)
    cell.numbers = numbers
    return cell


class Table(NamedTuple):
  """A table.

  Attributes:
    name: of its file.
    title: above it.
    header: titles of the columns.
    rows: cells.
    note: below it.
  """

  name: str
  title: str
  header: Sequence[str]
  rows: Sequence[Sequence[str]]
  note: str = ""


def markdown(table: Table) -> str:
  """Returns a table as Markdown, with its title and note."""

  def line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"

  return "\n".join(
    [
      f"### {table.title}",
      "",
      line(table.header),
      line(["---"] * len(table.header)),
      *map(line, table.rows),
      "",
      table.note,
      "",
    ]
  )


def csv_text(table: Table) -> str:
  """Returns a table as CSV, each number of a cell in a column of its own.

  Args:
    table: the table; of a column with the title T the numbers are in T, and in
      "T, low" and the like.
  """
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  columns = [_column(each) for each in zip(*table.rows, strict=True)]
  writer.writerow(
    title if name == "value" else f"{title}, {name.replace('_', ' ')}"
    for title, names in zip(table.header, columns)
    for name in names
  )
  for row in table.rows:
    writer.writerow(
      _plain(cell, name) for cell, names in zip(row, columns) for name in names
    )
  return text.getvalue()


def _column(cells: Sequence[str]) -> list[str]:
  """Returns what numbers the cells of a column have, in order."""
  found = [
    cell.numbers if isinstance(cell, Cell) else {"value": cell}
    for cell in cells
    if cell
  ]
  names = dict.fromkeys(name for numbers in found for name in numbers)
  return list(names) or ["value"]


def _plain(cell: str, name: str) -> str:
  """Returns one number of a cell; of one without, its text is the value."""
  if not isinstance(cell, Cell):
    return cell if name == "value" else ""
  number = cell.numbers.get(name)
  if number is None or isinstance(number, str):
    return number or ""
  return "" if math.isnan(number) else f"{number:.6g}"
