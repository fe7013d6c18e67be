"""Finds the marked code blocks of README.md, so that they can be run.

A block is marked by an HTML comment on the line before it, which a reader
does not see: `<!-- ci: run -->` for a command that .ci/run executes word for
word, `<!-- test: run -->` for a program that the tests execute. As a program
it prints the blocks with one mark, each ended by a NUL byte:
`python tests/readme_blocks.py "ci: run"`.

Main names: `blocks`.
"""

import pathlib
import re
import sys

README = pathlib.Path(__file__).resolve().parent.parent / "README.md"


def blocks(mark: str, text: str) -> list[str]:
  """Returns the contents of the blocks with a mark, in order."""
  pattern = rf"^<!-- {re.escape(mark)} -->\n```\w+\n(.*?)^```$"
  return re.findall(pattern, text, re.MULTILINE | re.DOTALL)


if __name__ == "__main__":
  for block in blocks(sys.argv[1], README.read_text(encoding="utf-8")):
    sys.stdout.write(block + "\0")
