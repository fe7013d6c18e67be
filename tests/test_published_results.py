"""What is published of the shipped weights is theirs, and what its rows say."""

import pathlib

import pytest

import flt_lopt
from meta_train.evaluation.candidates import weights_candidate
from meta_train.reports import suite_files, suite_report

PRETRAINED = pathlib.Path(flt_lopt.__file__).parent / "pretrained"


@pytest.fixture(scope="module", params=["held_out_small", "sweeps"])
def files(request):
  return suite_files.read_folder(PRETRAINED / request.param)


def test_rows_are_of_the_weights_that_ship(files):
  evaluated = files.about["optimizers"]
  assert evaluated.keys() <= set(flt_lopt.list_pretrained())
  for name, about in evaluated.items():
    assert about["fingerprint"] == weights_candidate(name).fingerprint


def test_tables_are_what_the_rows_say(files):
  made = suite_report.all_markdown(suite_report.make_tables(files))
  kept = files.path / suite_report.TABLES / suite_report.MARKDOWN
  assert kept.read_text() == made
