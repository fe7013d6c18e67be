"""Puts the results of the shipped weights into README.md, from their rows.

  python tests/readme_results.py

The block between the two markers is made from the rows in
`flt_lopt/pretrained/held_out_small`; a test holds README.md against it.
"""

import pathlib

from meta_train.reports import suite_files, suite_report, suite_tables

ROOT = pathlib.Path(__file__).resolve().parents[1]
ROWS = ROOT / "flt_lopt" / "pretrained" / "held_out_small"
README = ROOT / "README.md"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"


#: Of the table against every baseline, what README.md has room for.
COLUMNS = ("Tasks won", "Won on held-out data", "Loss ratio")


def block() -> str:
  """Returns the sentences, the table and what its columns are."""
  files = suite_files.read_folder(ROWS)
  table = suite_tables.against_baselines(files.found)
  cells = {
    (name, other): dict(zip(table.header[2:], rest, strict=True))
    for name, other, *rest in table.rows
  }
  names, others = (list(dict.fromkeys(each)) for each in zip(*cells))
  rows = [
    ["Baseline", *(f"{n}: {c.lower()}" for n in names for c in COLUMNS)],
    ["---"] * (1 + len(names) * len(COLUMNS)),
    *(
      [other, *(cells[name, other][c] for name in names for c in COLUMNS)]
      for other in others
    ),
  ]
  words = suite_tables.best_adam_note(files.found) + (
    "Intervals in brackets are over seeds alone; those over tasks too, and "
    "more columns, are in the tables beside the rows."
  )
  said = suite_report.headlines(ROWS)
  lines = ["| " + " | ".join(row) + " |" for row in rows]
  return "\n".join([*said, "", *lines, "", words]) + "\n"


def replaced(text: str) -> str:
  """Returns a text with the block between its markers."""
  before, rest = text.split(BEGIN)
  _, after = rest.split(END)
  return f"{before}{BEGIN}{block()}{END}{after}"


if __name__ == "__main__":
  README.write_text(replaced(README.read_text()))
