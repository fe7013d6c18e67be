"""`python -m meta_train.evaluate` and `.report`, as a user meets them."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import jax
import pytest
import tiny_runs

from meta_train import (
  evaluate as evaluate_main,
)
from meta_train import (
  make_baselines,
)
from meta_train import (
  report as report_main,
)
from meta_train.evaluation import (
  baseline_files,
  evaluate,
  folder_lock,
  problems,
)
from meta_train.reports import suite_files

ROOT = pathlib.Path(__file__).resolve().parent.parent
TASKS = ["--task_suite=validation_small", "--tasks=griewank,softmax_wine"]
SHORT = ["--steps=12", "--seeds=2", "--overhead_tasks=0"]
OURS = "own_optimizer:decaying"


def _run(folder, *flags):
  return evaluate_main.main(
    [f"--folder={folder}", "--num_devices=0", *TASKS, *SHORT, *flags]
  )


def _rows(folder):
  text = (folder / "evaluation.jsonl").read_text()
  return [json.loads(line) for line in text.splitlines()]


def _names(folder):
  return {(row["task"], row["optimizer"]) for row in _rows(folder)}


@pytest.fixture(scope="module", autouse=True)
def four_devices():
  """Lets jax find its devices before a flag could make fewer of them."""
  return jax.local_devices()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp("evaluation")
  assert _run(path, f"--optimizer={OURS}", "--baselines=none") == 0
  return path


def test_rows_of_every_task_and_seed(folder):
  rows = _rows(folder)
  assert _names(folder) == {
    ("griewank", "decaying"),
    ("softmax_wine", "decaying"),
  }
  assert len(rows) == 4
  assert all(row["role"] == "user" for row in rows)
  # It is told the truth about the steps: its rate falls to zero.
  assert all(len(row["curve"]) == 12 for row in rows)


def test_evaluations_use_as_many_devices_as_they_are_told(
  tmp_path, monkeypatch
):
  # As on a machine whose devices no flag makes: jax has found four already.
  assert len(jax.local_devices()) == 4
  used, train = [], evaluate.run_curves

  def seen(*args, devices, **options):
    used.append(len(devices))
    return train(*args, devices=devices, **options)

  monkeypatch.setattr(evaluate, "run_curves", seen)
  few = ["--num_devices=2", "--tasks=griewank"]
  flags = [f"--optimizer={OURS}", "--baselines=none"]
  assert _run(tmp_path / "a", *flags, *few) == 0
  flags = ["--task_suite=validation_small", "--steps=2", "--seeds=3"]
  folder = f"--folder={tmp_path / 'b'}"
  assert make_baselines.main([folder, *flags, *few, "--baselines=sgd"]) == 0
  evaluated = ("--num_devices=2", "--evaluate", "--eval_steps=5")
  tiny_runs.run_here(tmp_path / "c", monkeypatch, "--outer_steps=1", *evaluated)
  # A program each: ours, a grid and its best rate, the learned one and Adam.
  assert used == [2] * 5


def test_the_report_tells_what_is_missing(folder):
  text = (folder / "report.html").read_text()
  assert "no runs of adam" in text
  for name in ("tables/tables.md", "tables/tasks.csv"):
    assert "griewank" in (folder / name).read_text()


def test_other_optimizers_add_to_a_folder(folder, capsys):
  before = _rows(folder)
  flags = ["--optimizer=own_optimizer:plain,own_optimizer:wants_value"]
  assert _run(folder, *flags, "--baselines=none") == 0
  said = capsys.readouterr().err
  assert "plain" in said and "decaying" not in said
  after = _rows(folder)
  assert all(row in after for row in before) and len(after) == 12


def test_an_optimizer_that_fails_leaves_the_others_alone(tmp_path, capsys):
  names = ("fails_on_tasks", "plain")
  flags = ["--optimizer=" + ",".join(f"own_optimizer:{x}" for x in names)]
  assert _run(tmp_path, *flags, "--baselines=none", "--overhead_tasks=1") == 2
  said = capsys.readouterr().err.splitlines()
  assert "jobs that failed and are missing from the report: 3" in said[-1]
  assert {name for _, name in _names(tmp_path)} == {"plain"}
  text = (tmp_path / "report.html").read_text()
  assert "fails_on_tasks was to be evaluated and has no rows" in text


def test_what_was_evaluated_before_is_still_said(folder):
  def about():
    return json.loads((folder / "evaluation.json").read_text())

  before = about()
  before["problems"] += ["griewank: x is refused.", "softmax_wine: y is."]
  before["baselines"] = {"sgd": "optax.sgd"}
  (folder / "evaluation.json").write_text(json.dumps(before))
  flags = [f"--optimizer={OURS}", "--tasks=griewank"]
  assert _run(folder, *flags, "--baselines=none") == 0
  after = about()
  for name in ("tasks", "optimizers", "baselines", "problems"):
    assert after[name] == before[name]
  assert after["tasks"] == ["griewank", "softmax_wine"]

  flags = [f"--optimizer={OURS}", "--tasks=softmax_wine", "--sweep=width"]
  assert _run(folder, *flags, "--baselines=none") == 0
  after = about()
  assert after["tasks"] == before["tasks"]
  assert after["sweep_tasks"] == ["softmax_wine"]
  assert set(before["problems"]) < set(after["problems"])
  assert "softmax_wine has no width to set to x8." in after["problems"]
  # What is tried again is told again, and only then.
  flags = [f"--optimizer={OURS}", "--tasks=griewank", "--baselines=adam"]
  assert _run(folder, *flags) == 0
  problems = about()["problems"]
  assert "softmax_wine: y is." in problems
  assert "griewank: x is refused." not in problems


def test_names_given_twice_or_with_blanks_count_once():
  names = " sgd, adam ,sgd,"
  chosen = make_baselines.choose_baselines(names)
  assert [each.name for each in chosen] == ["sgd", "adam"]
  found = problems.choose_tasks(
    "validation_small", names="softmax_wine, griewank,softmax_wine"
  )
  assert [each.name for each in found] == ["softmax_wine", "griewank"]
  config = evaluate_main.EvaluateConfig(
    optimizer=f"{OURS}, {OURS}", sweep="dtype,dtype ", tasks="griewank",
    task_suite="validation_small",
  )  # fmt: skip
  plan = evaluate_main._plan(config)
  assert len(plan.candidates) == 1 and len(plan.settings) == 2


@pytest.mark.slow
def test_shipped_weights_by_name_with_kernels(tmp_path, capsys):
  flags = ["--weights=flt-quick", "--tasks=griewank", "--baselines=none"]
  assert _run(tmp_path, *flags, "--untrained") == 0
  names = {"flt-quick", "flt-quick, untrained"}
  assert _names(tmp_path) == {("griewank", name) for name in names}
  # Both are candidates of the report, and not the same.
  page = (tmp_path / "report.html").read_text()
  assert all(f"{name}: there is no adam" in page for name in names)
  losses = {
    row["optimizer"]: row["final"]["train"]["loss"] for row in _rows(tmp_path)
  }
  assert len(set(losses.values())) == 2
  assert (tmp_path / "kernels-flt-quick.json").exists()
  # Neither needs the other.
  before = _rows(tmp_path)
  capsys.readouterr()
  assert _run(tmp_path, *flags) == 0
  assert "seeds x" not in capsys.readouterr().err
  assert sorted(_rows(tmp_path), key=str) == sorted(before, key=str)


def test_a_folder_belongs_to_one_suite_and_length(folder, capsys):
  assert _run(folder, f"--optimizer={OURS}", "--steps=13") == 2
  said = capsys.readouterr().err
  assert "num_steps=12, not 13" in said and said.count("\n") == 1


def test_published_rows_are_not_added_to(tmp_path, capsys):
  (tmp_path / "evaluation.jsonl.gz").write_bytes(b"")
  assert _run(tmp_path, f"--optimizer={OURS}", "--baselines=none") == 2
  said = capsys.readouterr().err
  assert "holds published rows" in said and said.count("\n") == 1
  assert not (tmp_path / "evaluation.jsonl").exists()


def test_a_folder_is_evaluated_into_once_at_a_time(folder, capsys):
  before = (folder / "evaluation.json").read_bytes()
  with folder_lock.hold(folder):
    assert _run(folder, f"--optimizer={OURS}", "--baselines=none") == 2
  said = capsys.readouterr().err
  assert "being written by another program" in said and said.count("\n") == 1
  assert (folder / "evaluation.json").read_bytes() == before


def test_rows_that_are_replaced_are_told(tmp_path, capsys):
  flags = ["--tasks=griewank", f"--optimizer={OURS}", "--baselines=none"]
  assert _run(tmp_path, *flags) == 0
  assert "are replaced" not in capsys.readouterr().err
  about = json.loads((tmp_path / "evaluation.json").read_text())
  about["optimizers"]["decaying"]["fingerprint"] = "another"
  (tmp_path / "evaluation.json").write_text(json.dumps(about))
  assert _run(tmp_path, *flags) == 0
  said = capsys.readouterr().err
  assert said.count("rows of decaying (other weights") == 1
  assert _run(tmp_path, *flags) == 0
  assert "are replaced" not in capsys.readouterr().err


@pytest.mark.parametrize(
  ("flags", "expected"),
  [
    (["--wieghts=flt-quick"], "did you mean --weights"),
    (["--weights=flt-quikc"], "flt-quick"),
    (
      ["--weights=flt-quick", "--task_suite=validation_smal"],
      "validation_small",
    ),
    (["--weights=flt-quick", "--tasks=griewanck"], "did you mean griewank"),
    (["--weights=flt-quick", "--sweep=horizn"], "did you mean horizon"),
    (["--weights=flt-quick", "--baselines=loin"], "'lion'"),
    (["--steps=1", "--weights=flt-quick"], "at least 2"),
    (["--steps=many"], "is not an integer"),
    ([], "nothing to evaluate"),
    (["--optimizer=own_optimizer"], "module:factory"),
    (["--optimizer=no_such_module:x"], "neither installed nor in"),
    (["--optimizer=own_optimizer:decayin"], "did you mean decaying"),
    (["--optimizer=own_optimizer:wants_more"], "wants learning_rate"),
    (["--optimizer=own_optimizer:made"], "`def make(): return made`"),
    ([f"--optimizer={OURS}", "--untrained"], "leave --untrained out"),
    (["--optimizer=own_optimizer:makes_nothing"], "something of type int"),
    (["--optimizer=own_optimizer:fails_on_tasks"], "not for me"),
  ],
)
def test_mistakes_are_one_line_with_the_remedy(
  flags, expected, tmp_path, capsys
):
  given = [f"--folder={tmp_path / 'e'}", *TASKS, *SHORT, *flags]
  if "--steps=many" in flags or "--steps=1" in flags:
    given.remove("--steps=12")
  if any(flag.startswith("--task") for flag in flags):
    given = [flag for flag in given if not flag.startswith("--task")] + flags
    if flags[-1].startswith("--tasks"):
      given.append(TASKS[0])
  assert evaluate_main.main(given) == 2
  lines = capsys.readouterr().err.splitlines()
  errors = [line for line in lines if line.startswith("meta_train.evaluate:")]
  assert len(errors) == 1 and expected in errors[0]
  assert not any("Traceback" in line for line in lines)


def test_help_names_every_flag(capsys):
  assert evaluate_main.main(["--help"]) == 0
  said = capsys.readouterr().out
  for name in ("weights", "optimizer", "sweep", "compute_baselines"):
    assert f"--{name}" in said
  assert "default: 2000 inner steps" in said


@pytest.mark.parametrize(
  "program", ["compare", "evaluate", "make_baselines", "publish", "report"]
)
def test_each_module_is_a_program(program):
  said = subprocess.run(
    [sys.executable, "-m", f"meta_train.{program}", "--help"],
    capture_output=True,
    text=True,
    cwd=ROOT,
    check=True,
  ).stdout
  assert f"usage: python -m meta_train.{program}" in said


def test_report_is_made_again_from_rows_alone(folder, capsys):
  page = folder / "report.html"
  before = page.read_text()
  page.unlink()
  assert report_main.main([str(folder)]) == 0
  assert page.read_text() == before
  assert str(page) in capsys.readouterr().out


@pytest.mark.parametrize(
  ("words", "expected"),
  [([], "name a folder"), (["nowhere"], "no folder"), (["--x"], "unknown")],
)
def test_report_says_what_it_wants(words, expected, capsys):
  assert report_main.main(words) == 2
  assert expected in capsys.readouterr().err


def test_report_refuses_a_folder_of_something_else(tmp_path, capsys):
  assert report_main.main([str(tmp_path)]) == 2
  assert "holds no run" in capsys.readouterr().err


def test_shipped_baselines_stand_beside_or_are_refused(
  tmp_path, monkeypatch, capsys
):
  results = tmp_path / "results"
  monkeypatch.setattr(baseline_files, "FOLDER", results)
  flags = ["--task_suite=validation_small", "--tasks=griewank", "--steps=12"]
  flags += ["--seeds=2"]
  flags += [f"--folder={results}"]
  made = make_baselines.main([*flags, "--baselines=adam,sgd"])
  assert made == 0 and (results / "griewank.jsonl.gz").exists()
  flags = ["--tasks=griewank", f"--optimizer={OURS}"]
  capsys.readouterr()
  folder = tmp_path / "evaluation"
  assert _run(folder, *flags, "--baselines=adam,sgd") == 0
  said = capsys.readouterr()
  assert "rates" not in said.err  # Nothing of a baseline was computed.
  assert "decaying wins" in said.out and "speed-up" in said.out
  optimizers = {row["optimizer"] for row in _rows(folder)}
  assert optimizers == {"decaying", "adam", "sgd"}
  assert "Missing or damaged" not in (folder / "report.html").read_text()

  # A row without its task is told, and doesn't stop what can be done.
  with (folder / "evaluation.jsonl").open("a") as file:
    file.write('{"group": "x", "group_size": 1, "seed": 0, "final": {}}\n')
  before = _rows(folder)[:-1]
  assert _run(folder, *flags, "--baselines=adam,sgd") == 0
  assert "lacks task, optimizer, setting and was" in capsys.readouterr().err
  assert _rows(folder) == before

  file = baseline_files.load(results / "griewank.jsonl.gz")
  header = {**file.header, "definition": "another"}
  baseline_files.write(
    results / "griewank.jsonl.gz", file._replace(header=header)
  )
  folder = tmp_path / "again"
  assert _run(folder, *flags, "--baselines=adam") == 0
  assert (
    "another definition and were refused"
    in (folder / "report.html").read_text()
  )
  assert _run(folder, *flags, "--baselines=adam", "--compute_baselines") == 0
  assert "griewank: adam, 14 rates" in capsys.readouterr().err
  assert "refused" not in (folder / "report.html").read_text()
  rows = [row for row in _rows(folder) if row["role"] == "envelope"]
  assert [len(row["curve"]) for row in rows] == [24]

  # Measured on other data: told, unless it is computed. Its rows in the folder
  # are those of an earlier evaluation, and don't hide that.
  folder = tmp_path / "evaluation"
  moved = [{**row, "first_loss": 1e3} for row in file.rows]
  baseline_files.write(results / "griewank.jsonl.gz", file._replace(rows=moved))
  capsys.readouterr()
  assert _run(folder, *flags, "--baselines=sgd") == 0
  page = (folder / "report.html").read_text()
  assert "runs of sgd started from other losses" in page
  assert {row["optimizer"] for row in _rows(folder)} == {"decaying", "adam"}
  for times in (1, 0):  # It stays.
    assert _run(folder, *flags, "--baselines=sgd", "--compute_baselines") == 0
    said = capsys.readouterr().err
    assert said.count("griewank: sgd") == times and "decaying" not in said
    page = (folder / "report.html").read_text()
    assert "started from other losses" not in page
  assert "sgd" in {row["optimizer"] for row in _rows(folder)}


def test_sweeps_are_rows_of_their_own(tmp_path, capsys):
  flags = ["--tasks=softmax_wine", f"--optimizer={OURS}", "--baselines=none"]
  assert _run(tmp_path, *flags, "--sweep=loss_scale,dtype,width") == 0
  found = {
    (row["setting"]["sweep"], row["setting"]["value"]): row
    for row in _rows(tmp_path)
    if row["seed"] == 0
  }
  assert len(found) == 5 + 2 + 1  # A linear model has no width.
  text = (tmp_path / "evaluation.json").read_text()
  assert "softmax_wine has no width to set to x8" in text
  # Losses are those of the task as it was, and this Adam does not care.
  plain = found["loss_scale", "1"]
  for value in ("1e-03", "1e+03"):
    scaled = found["loss_scale", value]
    assert scaled["first_loss"] == pytest.approx(plain["first_loss"], rel=1e-4)
    assert scaled["last_loss"] == pytest.approx(plain["last_loss"], rel=1e-2)
  half = found["dtype", "bfloat16"]
  assert half["first_loss"] == pytest.approx(plain["first_loss"], rel=0.05)
  assert half["first_loss"] != plain["first_loss"]


_SLOWLY = """
import sys, time
from meta_train import evaluate as evaluate_main
from meta_train.evaluation import jobs
write_rows = jobs.write_rows
def slowly(path, rows):
  write_rows(path, rows)
  print("written", flush=True)
  time.sleep(0.5)
jobs.write_rows = slowly
sys.exit(evaluate_main.main())
"""


@pytest.mark.parametrize(
  "number",
  [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)],
)
def test_a_killed_evaluation_continues_without_repeating_rows(
  tmp_path, number, capsys
):
  command = [sys.executable, "-c", _SLOWLY, f"--folder={tmp_path}", *TASKS]
  command += [*SHORT, "--baselines=none", "--num_devices=1"]
  command += [f"--optimizer={OURS},own_optimizer:plain"]
  path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
  process = subprocess.Popen(
    command,
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
    env=os.environ | {"PYTHONPATH": path},
  )
  for line in process.stdout:
    if line == "written\n":
      break
  process.send_signal(number)
  code = process.wait(timeout=60)
  assert code in (-number, 128 + number)
  kept = _rows(tmp_path)
  assert 0 < len(kept) < 8
  assert not (tmp_path / "report.html").exists()
  # A page of what is there says that it is not all.
  told = suite_files.read_folder(tmp_path).problems
  about = json.loads((tmp_path / "evaluation.json").read_text())
  assert about["tasks"] == ["griewank", "softmax_wine"]
  assert set(about["optimizers"]) == {"decaying", "plain"}
  assert any("was to be evaluated and has no rows" in x for x in told)
  lines = (tmp_path / "evaluation.jsonl").read_bytes()
  capsys.readouterr()
  flags = [f"--optimizer={OURS},own_optimizer:plain", "--baselines=none"]
  assert _run(tmp_path, *flags) == 0
  said = capsys.readouterr().err
  for row in kept:
    assert f"{row['task']}: {row['optimizer']}" not in said
  assert said.count("seeds x") == (8 - len(kept)) / 2
  assert (tmp_path / "evaluation.jsonl").read_bytes().startswith(lines)
  rows = _rows(tmp_path)
  keys = [(row["task"], row["optimizer"], row["seed"]) for row in rows]
  assert len(keys) == len(set(keys)) == 8
