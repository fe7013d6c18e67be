"""The examples train their models with the shipped weights."""

import importlib.util
import pathlib

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parent / "examples"


@pytest.mark.parametrize("library", ["flax", "equinox"])
def test_example_trains_its_model(library):
  pytest.importorskip(library)
  path = EXAMPLES / f"train_{library}.py"
  spec = importlib.util.spec_from_file_location(path.stem, path)
  example = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(example)
  first, last = example.main()
  assert last < 0.5 * first
