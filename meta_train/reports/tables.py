"""A table as cells of text: for Markdown, CSV and a page.

Names: `Table`, `markdown`, `csv_text`.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple


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
  """Returns a table as CSV."""
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(table.header)
  writer.writerows(table.rows)
  return text.getvalue()
