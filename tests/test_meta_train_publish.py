"""What is kept of an evaluation makes the same page, and tells no folders."""

import json
import pathlib
import shutil

import pytest
import suite_rows

import flt_lopt
from meta_train import publish, report
from meta_train.reports import suite_report
from meta_train.rows import read_rows, write_json, write_rows


@pytest.fixture
def evaluated(tmp_path):
  folder = tmp_path / "evaluation"
  made = [*suite_rows.candidate_rows("a", "flt", 2.0)]
  write_rows(folder / "evaluation.jsonl", [*made, *suite_rows.adam_rows("a")])
  about = {
    "kind": "flt_lopt evaluation",
    "num_steps": suite_rows.N,
    "num_seeds": suite_rows.SEEDS,
    "tasks": ["a"],
    "problems": ["an old one"],
    "settings": {"folder": str(folder)},
    "environment": {"command": [str(folder)], "backend": "cpu"},
  }
  write_json(folder / "evaluation.json", about)
  return folder


def test_the_kept_rows_make_the_same_report(evaluated, tmp_path):
  target = tmp_path / "kept"
  assert publish.main([str(evaluated), str(target)]) == 0
  assert not (target / "evaluation.jsonl").exists()
  before, after = map(suite_report.headlines, (evaluated, target))
  assert before == after and before
  about = json.loads((target / "evaluation.json").read_text())
  assert str(tmp_path) not in json.dumps(about)
  assert "settings" not in about


def test_what_was_there_before_goes_and_sweeps_stay_told(evaluated, tmp_path):
  about = json.loads((evaluated / "evaluation.json").read_text())
  sweep = "a has no width to set to x8."
  about["problems"] = ["a: the shipped results were refused", sweep]
  write_json(evaluated / "evaluation.json", about)
  write_json(evaluated / "kernels-flt.json", {"lags": [], "kernels": {}})
  target = tmp_path / "kept"
  target.mkdir()
  for name in ("evaluation.jsonl.gz", "kernels-old.json", "overhead.jsonl"):
    (target / name).write_text("{}")
  publish.publish(evaluated, target)
  assert {path.name for path in target.iterdir()} == {
    *("evaluation.json", "evaluation.jsonl.gz", "kernels-flt.json"),
  }
  about = json.loads((target / "evaluation.json").read_text())
  assert about["problems"] == [sweep]


def test_a_folder_is_not_published_into_itself(evaluated, capsys):
  assert publish.main([str(evaluated), str(evaluated)]) == 2
  assert "into itself" in capsys.readouterr().err
  assert (evaluated / "evaluation.jsonl").exists()


@pytest.mark.parametrize(
  ("name", "says"),
  [
    ("evaluation.jsonl", "not packed, which would be lost"),
    ("evaluation/evaluation.jsonl", "not packed, which would be lost"),
    ("notes.txt", "holds notes.txt, and nothing that was published"),
  ],
)
def test_what_was_not_published_is_never_replaced(
  evaluated, tmp_path, capsys, name, says
):
  file = tmp_path / "kept" / name
  file.parent.mkdir(parents=True)
  file.write_text("mine")
  assert publish.main([str(evaluated), str(tmp_path / "kept")]) == 2
  assert says in capsys.readouterr().err
  assert [x for x in (tmp_path / "kept").rglob("*") if x.is_file()] == [file]
  assert file.read_text() == "mine"


def test_a_comparison_with_a_missing_run_is_refused(tmp_path, capsys):
  about = {"kind": "flt_lopt comparison", "setting": "variant"}
  runs = {"ema": ["ema-seed0"]}
  folder = tmp_path / "compared"
  write_json(folder / "compare.json", {**about, "runs": runs, "evaluation": {}})
  assert publish.main([str(folder), str(tmp_path / "kept")]) == 2
  assert "ema-seed0: the run has no result yet" in capsys.readouterr().err
  assert not (tmp_path / "kept").exists()


def test_the_shipped_comparison_is_what_its_rows_say(tmp_path):
  shipped = pathlib.Path(flt_lopt.__file__).parent / "pretrained" / "ablation"
  folder = tmp_path / "ablation"
  shutil.copytree(shipped, folder)
  (folder / "compare.md").unlink()
  assert report.main([str(folder)]) == 0
  text = (folder / "compare.md").read_text()
  assert text == (shipped / "compare.md").read_text()
  assert "Missing" not in text


def test_shipped_rows_are_left_out(evaluated, tmp_path):
  rows = read_rows(evaluated / "evaluation.jsonl").rows
  shipped = {**rows[0], "optimizer": "x", "group": "shipped x on y"}
  with (evaluated / "evaluation.jsonl").open("a") as file:
    file.write(json.dumps(shipped) + "\n")
  publish.publish(evaluated, tmp_path / "kept")
  assert read_rows(tmp_path / "kept" / "evaluation.jsonl").rows == rows


@pytest.mark.parametrize(
  ("words", "says"),
  [
    ([], "name two folders"),
    (["--fro"], "unknown flag --fro"),
    (["{tmp}/none", "{tmp}/to"], "not the folder of a whole evaluation"),
  ],
)
def test_mistakes_are_told(tmp_path, capsys, words, says):
  words = [word.format(tmp=tmp_path) for word in words]
  assert publish.main(words) == 2
  assert says in capsys.readouterr().err
