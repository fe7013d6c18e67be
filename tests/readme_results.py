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


def block() -> str:
  """Returns the sentences, the table and what its columns are."""
  files = suite_files.read_folder(ROWS)
  table = suite_tables.against_baselines(files.found)
  lines = [
    "| " + " | ".join(cells) + " |" for cells in (table.header, *table.rows)
  ]
  lines.insert(1, "|" + "---|" * len(table.header))
  words = (
    suite_tables.best_adam_note(files.found)
    + suite_tables.OVER_TASKS
    + suite_tables.AT_EDGE
  )
  said = suite_report.headlines(ROWS)
  return "\n".join([*said, "", *lines, "", words]) + "\n"


def replaced(text: str) -> str:
  """Returns a text with the block between its markers."""
  before, rest = text.split(BEGIN)
  _, after = rest.split(END)
  return f"{before}{BEGIN}{block()}{END}{after}"


if __name__ == "__main__":
  README.write_text(replaced(README.read_text()))
