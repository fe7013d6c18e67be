"""Whole runs of a tiny task: rows, validation, starting from weights."""

import csv
import dataclasses
import json
import math
import re
import shutil
import signal

import jax
import numpy as np
import pytest
import tiny_runs

import flt_lopt
from meta_train.command import flags, signals
from meta_train.engine import meter
from meta_train.engine.outer_state import StepMetrics
from meta_train.errors import UserError
from meta_train.evaluation import evaluate
from meta_train.evaluation.problems import load_problems
from meta_train.run import csv_rows, live_report, loop, whole


def test_a_page_tells_which_weights_were_evaluated(
  tmp_path, monkeypatch, capsys
):
  pytest.importorskip("matplotlib")
  flags_ = ("--evaluate", "--eval_steps=5", "--eval_seeds=2")
  tiny_runs.run_on_two(tmp_path, monkeypatch, *flags_, "--outer_steps=3")
  page = tmp_path / "run" / "report.html"
  assert "Of the weights after" not in page.read_text()
  tiny_runs.run_on_two(
    tmp_path, monkeypatch, "--outer_steps=6", "--report_every=99"
  )
  assert "after 3 outer steps; the run has done 6." in page.read_text()
  assert "report     " in capsys.readouterr().out
  # What this start has not made is not shown for its own.
  tiny_runs.run_on_two(
    tmp_path, monkeypatch, "--outer_steps=6", "--report_every=0"
  )
  told = capsys.readouterr().out
  assert "optimizer" in told
  assert "report     " not in told and "pictures   " not in told


def test_a_longer_run_tells_what_becomes_of_its_rate(
  tmp_path, monkeypatch, capsys
):
  flags_ = ("--outer_decay=-1",)
  for steps, warned in ((2, False), (4, True), (4, False)):
    tiny_runs.run_on_two(
      tmp_path, monkeypatch, *flags_, f"--outer_steps={steps}"
    )
    told = capsys.readouterr()
    words = "--outer_steps, which was 2 and is 4: the outer rate jumps up"
    assert (words in told.err) == warned
    assert "from here (the outer rate jumps up and falls anew" in told.out


def test_a_missing_file_of_a_task_is_no_full_disk(tmp_path, monkeypatch):
  def broken(*args, **kwargs):
    (tmp_path / "elsewhere.npz").read_bytes()

  monkeypatch.setattr(evaluate, "evaluate_run", broken)
  with pytest.raises(FileNotFoundError, match="elsewhere"):
    tiny_runs.run_on_two(tmp_path, monkeypatch, "--outer_steps=2", "--evaluate")


def test_rows_tell_what_happens(tmp_path, monkeypatch):
  _, rows = tiny_runs.run_on_two(
    tmp_path, monkeypatch, "--outer_steps=10", "--log_every=4"
  )
  assert [row["outer_step"] for row in rows] == [4, 8, 10]
  for row in rows:
    assert row["inner_steps"] == row["outer_step"] * 4 * 2 * 3
    assert row["meta_loss"] == row["meta_loss/Tiny"]
    assert (
      row["diverged_fraction"] == row["diverged/Tiny"] == row["skipped"] == 0
    )
    assert row["grad_norm"] > 0 and row["grad_variance"] > 0
    assert row["time_constant/beta 0.9"] > 1
  lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
  with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
    table = list(csv.DictReader(file))
  assert len(table) == 3
  for row, line in zip(table, map(json.loads, lines), strict=True):
    assert list(row) == list(line)
    assert [float(x) for x in row.values()] == list(line.values())
  assert all(line["inner_steps_per_s"] > 0 for line in map(json.loads, lines))


def test_a_refused_start_does_not_say_it_trains(tmp_path, monkeypatch, capsys):
  tiny_runs.run_on_two(tmp_path, monkeypatch, "--outer_steps=4")
  assert "meta-training on Tiny: 4 outer steps" in capsys.readouterr().err
  with pytest.raises(UserError, match="--outer_steps=2 is less than the 4"):
    tiny_runs.run_on_two(tmp_path, monkeypatch, "--outer_steps=2")
  assert "meta-training on" not in capsys.readouterr().err


def test_validation_without_validation_tasks_is_refused(tmp_path, monkeypatch):
  load = whole.load_problems
  monkeypatch.setattr(
    whole, "load_problems", lambda config: load(config)._replace(validation=())
  )
  with pytest.raises(UserError, match="validate_every=5, but --task_suite"):
    tiny_runs.run_on_two(tmp_path, monkeypatch, "--validate_every=5")
  assert not (tmp_path / "run").exists()


def test_an_own_task_is_validated_on(tmp_path, monkeypatch):
  flags_ = ("--outer_steps=4", "--validate_every=2", "--validation_steps=4")
  tiny_runs.run_on_two(tmp_path, monkeypatch, *flags_, "--result=best")
  scores = tiny_runs.rows(tmp_path / "run", "validation.jsonl")
  assert [row["outer_step"] for row in scores] == [0, 2, 4]
  assert all("score/Tiny" in row for row in scores)


def test_a_run_starts_from_weights_of_its_own_kind(
  tmp_path, monkeypatch, four_steps
):
  first, file = four_steps
  same, _ = tiny_runs.run_on_two(
    tmp_path / "b", monkeypatch, f"--init_from={file}", "--outer_steps=0"
  )
  np.testing.assert_array_equal(same, first)
  further, _ = tiny_runs.run_on_two(
    tmp_path / "c", monkeypatch, f"--init_from={file}", "--outer_steps=2"
  )
  assert np.any(further != first)
  with pytest.raises(UserError) as caught:
    tiny_runs.run_on_two(
      tmp_path / "d", monkeypatch, f"--init_from={file}", "--hidden_units=3"
    )
  assert "hidden_units 3 instead of 2" in str(caught.value)
  assert "memory" not in str(caught.value)
  assert not (tmp_path / "d" / "run").exists()


def test_weights_of_another_task_are_needed_once(
  tmp_path, monkeypatch, four_steps
):
  first, shared = four_steps
  file = tmp_path / "start.safetensors"
  shutil.copy(shared, file)
  flags_ = ("--task=tiny_task:Other", f"--init_from={file}")
  begun, _ = tiny_runs.run_on_two(
    tmp_path / "b", monkeypatch, *flags_, "--outer_steps=0"
  )
  np.testing.assert_array_equal(begun, first)
  whole, _ = tiny_runs.run_on_two(
    tmp_path / "c", monkeypatch, *flags_, "--outer_steps=6"
  )
  tiny_runs.run_on_two(tmp_path / "d", monkeypatch, *flags_, "--outer_steps=4")
  file.unlink()
  parts, _ = tiny_runs.run_on_two(
    tmp_path / "d", monkeypatch, *flags_, "--outer_steps=6"
  )
  np.testing.assert_array_equal(parts, whole)
  assert np.any(whole != first)
  with pytest.raises(UserError, match=r"--init_from=.*start"):
    tiny_runs.run_on_two(
      tmp_path / "e", monkeypatch, *flags_, "--outer_steps=6"
    )


def test_a_run_killed_in_its_first_checkpoint_starts_from_its_weights(
  tmp_path, monkeypatch, four_steps
):
  _, file = four_steps
  flags_ = (f"--init_from={file}", "--outer_steps=6")
  expected, _ = tiny_runs.run_on_two(tmp_path / "b", monkeypatch, *flags_)
  # What a kill leaves of a checkpoint that was being written, and what
  # programs of others leave anywhere.
  checkpoints = tmp_path / "c" / "run" / "checkpoints"
  with monkeypatch.context() as patch:
    patch.setattr(loop, "_save", _raise_stopped)
    with pytest.raises(signals.Stopped):
      tiny_runs.run_on_two(tmp_path / "c", patch, *flags_)
  checkpoints.mkdir()
  for name in (".step-00000004.safetensors.1.partial", ".DS_Store"):
    (checkpoints / name).write_bytes(b"half")
  again, _ = tiny_runs.run_on_two(tmp_path / "c", monkeypatch, *flags_)
  np.testing.assert_array_equal(again, expected)


def _raise_stopped(*arguments):
  raise signals.Stopped(signal.SIGTERM)


def test_a_run_starts_from_shipped_weights(tmp_path, monkeypatch):
  flags_ = ("--init_from=flt-starter", "--outer_steps=0", "--controller=")
  flags_ += ("--hidden_units=0",)
  same = ["--direction=linear", "--geometry=normalized", "--gradient_limit=5.0"]
  with pytest.raises(UserError, match=f"as by {' '.join(same)}$"):
    tiny_runs.run_on_two(tmp_path / "a", monkeypatch, *flags_)
  more = ["--init_from=flt-quick", "--gradient_limit=3"]
  with pytest.raises(UserError, match=r"as by --gradient_limit=0\.0$"):
    tiny_runs.run_on_two(tmp_path / "a", monkeypatch, *flags_, *more)
  found, _ = tiny_runs.run_on_two(tmp_path / "b", monkeypatch, *flags_, *same)
  _, tree = flt_lopt.load("flt-starter")
  leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(tree)]
  np.testing.assert_array_equal(found, np.concatenate(leaves))


def test_families_are_chosen_by_name():
  config = flags.parse(["--families=mlp_digits_16_tanh"]).config
  (family,) = load_problems(config).train
  assert family.name == "mlp_digits_16_tanh"
  config = dataclasses.replace(config, families="mlp_digits_23")
  with pytest.raises(UserError, match=r"'mlp_digits_23'.*did you mean.*_32"):
    load_problems(config)


def _metrics(**changes):
  return StepMetrics(
    **dict(
      dict(
        meta_loss=1.0,
        diverged_fraction=0.0,
        grad_norm=2.0,
        grad_variance=3.0,
        grad_snr=0.0,
        grad_limited=0.0,
        skipped=False,
        families=(0, 1),
        family_losses=(1.0, 1.0),
        family_diverged=(0.0, 0.0),
      ),
      **changes,
    )
  )


def test_a_row_counts_families_alike_and_averages_before_dividing():
  sums = meter.empty(3)
  for metrics in (
    _metrics(families=(0,), family_losses=(2.0,), family_diverged=(1.0,)),
    _metrics(families=(0,), family_losses=(4.0,), family_diverged=(0.0,)),
    _metrics(
      families=(1,),
      family_losses=(7.0,),
      family_diverged=(0.0,),
      grad_norm=4.0,
      grad_variance=5.0,
    ),
    _metrics(
      families=(1,),
      family_losses=(9.0,),
      family_diverged=(0.0,),
      grad_norm=math.nan,
      grad_variance=math.nan,
      skipped=True,
    ),
  ):
    sums = meter.add(sums, metrics)
  row = meter.row(sums, ("a", "b", "a"))
  assert row["meta_loss"] == (3.0 + 8.0) / 2
  assert (row["meta_loss/a#0"], row["meta_loss/b"]) == (3.0, 8.0)
  assert math.isnan(row["meta_loss/a#2"])
  assert row["diverged/a#0"] == 0.5 and row["diverged_fraction"] == 0.25
  assert row["skipped"] == 1
  assert row["grad_norm"] == pytest.approx(8 / 3)
  assert row["grad_snr"] == pytest.approx(24 / 11 - 1)


def test_what_a_run_could_not_use_is_told(tmp_path, monkeypatch, capsys):
  rows = [
    {"outer_step": 2, "skipped": 1, "grad_limited": 0.5},
    {"outer_step": 8, "skipped": 2, "grad_limited": None},
    {"outer_step": 10, "skipped": 0, "grad_limited": 1.0},
  ]
  assert meter.shares_left_out(rows) == (3, pytest.approx(0.3))
  text = "3 outer steps were skipped, .*; 30.00% of the tasks' estimates had"
  assert re.match(text, meter.left_out(rows))
  assert meter.left_out([{"outer_step": 4, "skipped": 0}]) == ""
  flags_ = ("--outer_steps=2", "--task_gradient_clip=1e-9", "--report_every=99")
  tiny_runs.run_on_two(tmp_path, monkeypatch, *flags_)
  assert "100.00% of the tasks' estimates had" in capsys.readouterr().err
  page = (tmp_path / "run" / "report.html").read_text()
  assert "Estimates limited or dropped" in page and "100.00%" in page


def test_the_table_is_rewritten_from_the_rows(tmp_path):
  table = csv_rows.CsvRows(tmp_path / "metrics.csv")
  table.append({"outer_step": 1, "loss": math.nan, "name": 'a "b", c'})
  table.append({"outer_step": 2, "loss": 0.5})
  first = table.path.read_text()
  again = csv_rows.CsvRows(table.path)
  again.rewrite(
    [
      {"outer_step": 1, "loss": None, "name": 'a "b", c'},
      {"outer_step": 2, "loss": 0.5},
    ]
  )
  assert table.path.read_text() == first
  with table.path.open(newline="") as file:
    assert next(csv.DictReader(file))["name"] == 'a "b", c'
  again.rewrite([])
  assert not table.path.exists()


def test_the_page_is_made_again_at_a_bounded_cost(tmp_path, caplog):
  page = tmp_path / "report.html"
  now, cost, made = [0.0], [1.0], []

  def write(path):
    assert path == tmp_path
    now[0] += cost[0]
    made.append(now[0])
    page.write_text("<html><head><title>a</title></head></html>")
    return page

  live = live_report.LiveReport(
    tmp_path, every_s=30.0, write=write, clock=lambda: now[0]
  )
  while now[0] < 400.0:
    live.update()
    now[0] += 1.0
  # A page that takes 1 s is made every 50 s, not every 30 s.
  assert np.all(np.diff(made) >= 50.0) and len(made) == 8
  assert '<head>\n<meta http-equiv="refresh" content="30">' in page.read_text()
  cost[0] = 0.0
  made.clear()
  live = live_report.LiveReport(
    tmp_path, every_s=30.0, write=write, clock=lambda: now[0]
  )
  for _ in range(100):
    live.update()
    now[0] += 1.0
  assert len(made) == 3

  # A page that cannot be made is a warning, once; and 0 is never.
  def broken(path):
    made.append(path)
    raise RuntimeError("no fonts")

  made.clear()
  for every_s in (1.0, 0.0):
    live = live_report.LiveReport(
      tmp_path, every_s=every_s, write=broken, clock=lambda: now[0]
    )
    for _ in range(5):
      assert not live.update()
      now[0] += 10.0
  assert len(made) == 1 and "no fonts" in caplog.text
