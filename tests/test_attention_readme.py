"""The attention page: its example runs, its names and pictures exist."""

import contextlib
import io
import pathlib
import re

import readme_blocks

from flt_lopt import attention

FOLDER = pathlib.Path(attention.__file__).resolve().parent
TEXT = (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_example_runs_and_both_forms_agree():
  (example,) = readme_blocks.blocks("test: run", TEXT)
  code = [line for line in example.splitlines() if line.strip()]
  assert len(code) <= 12
  printed = io.StringIO()
  with contextlib.redirect_stdout(printed):
    exec(compile(example, "README.md", "exec"), {})
  assert float(printed.getvalue()) < 1e-5


def test_every_registered_name_is_on_the_page():
  names = attention.ENCODINGS.names() + attention.FEATURE_MAPS.names()
  for name in (*names, *attention.FORMS):
    assert name == "none" or f"`{name}`" in TEXT, name


def test_pictures_and_commands_exist():
  pictures = re.findall(r"\]\((pictures/[^)]*)\)", TEXT)
  assert len(pictures) == 2
  for picture in pictures:
    assert (FOLDER / picture).stat().st_size < 200_000
  for command in re.findall(r"`python (tests/\S+)", TEXT):
    assert (FOLDER.parents[1] / command).exists()
