"""Whole runs of a tiny task: rows, validation, starting from weights."""

import csv
import dataclasses
import json
import math
import os
import re
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_runs
from jax.flatten_util import ravel_pytree

import flt_lopt
import tasks
from meta_train.command import flags, signals
from meta_train.engine import meter
from meta_train.engine.outer_state import StepMetrics
from meta_train.errors import UserError
from meta_train.evaluation import evaluate
from meta_train.evaluation.problems import load_problems
from meta_train.run import csv_rows, live_report, loop, memory_maps, whole
from meta_train.run.validation import FLOOR, Validation

LOPT = flt_lopt.LearnedOptimizer(
  flt_lopt.OptimizerConfig(hidden_units=2, controller="off")
)
THETA, UNRAVEL = ravel_pytree(LOPT.init(jax.random.key(0)))


class Bowl(tasks.Task):
  """A parabola far away: the faster the better; too fast is infinite."""

  name = "bowl"

  def init(self, key):
    return {"x": 3.0 + jnp.zeros((3,))}

  def loss(self, params, key, data):
    return jnp.mean(jnp.square(params["x"]))


def _faster(log_factor):
  """Returns theta with steps longer by a factor."""
  tree = UNRAVEL(THETA)
  tree["step"]["log_rate"] = tree["step"]["log_rate"] + log_factor
  return np.asarray(ravel_pytree(tree)[0])


@pytest.fixture(scope="module")
def validation():
  return Validation((Bowl(),), LOPT, UNRAVEL, num_steps=95)


def test_validation_ranks_theta_and_repeats_itself(validation):
  start, fast, faster = (validation.losses(_faster(x)) for x in (0.0, 2.0, 3.0))
  assert validation.names == ("bowl",)
  assert start.shape == (1,) and start > fast > faster
  np.testing.assert_array_equal(validation.losses(_faster(2.0)), fast)
  # The last tenth of 100 steps at the reference's rate, by hand.
  tx = LOPT.reference(num_steps=100)
  task, losses = Bowl(), []
  params = task.init(jax.random.key(0))
  state = tx.init(params)

  @jax.jit
  def step(params, state):
    loss, gradient = jax.value_and_grad(task.loss)(params, None, None)
    updates, state = tx.update(gradient, state, params)
    return jax.tree.map(jnp.add, params, updates), state, loss

  for _ in range(100):
    params, state, loss = step(params, state)
    losses.append(float(loss))
  expected = np.mean(np.log(np.array(losses[-10:]) + FLOOR))
  np.testing.assert_allclose(start, expected, rtol=1e-3)


def test_programs_of_the_validation_go_when_it_is_crowded(
  validation, monkeypatch
):
  expected = validation.losses(THETA)
  monkeypatch.setattr(memory_maps, "is_crowded", lambda: True)
  np.testing.assert_array_equal(validation.losses(THETA), expected)
  assert [p._cache_size() for p in validation._programs] == [0]
  np.testing.assert_array_equal(validation.losses(THETA), expected)


def test_a_diverged_validation_counts_the_largest_loss(validation):
  (worst,) = validation.losses(_faster(200.0))
  assert np.isfinite(worst) and worst > validation.losses(THETA)[0]


def _run(folder, monkeypatch, *arguments):
  return tiny_runs.run_here(folder, monkeypatch, "--num_devices=2", *arguments)


@pytest.fixture(scope="module")
def four_steps(tmp_path_factory):
  """Theta of a run of four outer steps, and the file it is in; keep both."""
  folder = tmp_path_factory.mktemp("four_steps")
  with pytest.MonkeyPatch.context() as patch:
    found, _ = _run(folder, patch, "--outer_steps=4")
  return found, folder / "run" / "theta.safetensors"


def _with_validation(monkeypatch):
  load = whole.load_problems

  def more(config):
    return load(config)._replace(validation=(Bowl(),))

  monkeypatch.setattr(whole, "load_problems", more)


def test_the_best_theta_is_found_kept_and_resumed(tmp_path, monkeypatch):
  _with_validation(monkeypatch)
  flags_ = ("--validate_every=5", "--result=best", "--keep_checkpoints=1")
  # So fast that it gets worse again.
  flags_ += ("--outer_learning_rate=0.5", "--theta_average=0.5")
  whole, rows = _run(tmp_path / "a", monkeypatch, *flags_, "--outer_steps=40")
  run = tmp_path / "a" / "run"
  scores = tiny_runs.rows(run, "validation.jsonl")
  assert [row["outer_step"] for row in scores] == list(range(0, 45, 5))
  assert scores[0]["score"] == 0.0  # Untrained, by definition.
  assert all(row["score"] == row["score/bowl"] for row in scores)
  best = min(scores, key=lambda row: row["score"])
  kept = {int(path.stem[5:]) for path in (run / "checkpoints").iterdir()}
  assert kept == {best["outer_step"], 40}
  record = flt_lopt.read_provenance(run / "theta.safetensors")
  assert record["validation"]["score"] == best["score"]
  assert record["validation"]["outer_step"] == best["outer_step"]
  # It is the running average of that moment: a run so short ends with it.
  (tmp_path / "b").mkdir()
  short, _ = _run(
    *(tmp_path / "b", monkeypatch, *flags_[2:]),
    f"--outer_steps={best['outer_step']}",
  )
  np.testing.assert_array_equal(whole, short)
  # Stopped in between and continued: the same rows and the same best.
  for steps in (12, 23, 40):
    parts, part_rows = _run(
      tmp_path / "c", monkeypatch, *flags_, f"--outer_steps={steps}"
    )
  np.testing.assert_array_equal(parts, whole)
  later = tiny_runs.rows(tmp_path / "c" / "run", "validation.jsonl")
  assert [row for row in later if row["outer_step"] % 5 == 0] == scores
  del rows, part_rows


def _stop_in_validation(monkeypatch, outer_step):
  """Sends SIGTERM while the scores of that outer step are computed."""
  validate = loop._validate

  def stopped(validation, parts, state, folder):
    if int(state.outer.outer_step) == outer_step:
      signal.raise_signal(signal.SIGTERM)
    return validate(validation, parts, state, folder)

  monkeypatch.setattr(loop, "_validate", stopped)


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("step", [10, 12])
def test_a_stop_in_validation_comes_right_after(tmp_path, monkeypatch, step):
  _with_validation(monkeypatch)
  flags_ = ("--validate_every=5", "--outer_steps=12", "--eval_seeds=2")
  flags_ += ("--evaluate", "--eval_steps=5")
  with monkeypatch.context() as patch:
    _stop_in_validation(patch, step)
    with pytest.raises(signals.Stopped, match=f"outer step {step} is saved"):
      _run(tmp_path, patch, *flags_)
  run = tmp_path / "run"
  assert not (run / "theta.safetensors").exists()
  scores = tiny_runs.rows(run, "validation.jsonl")
  assert [row["outer_step"] for row in scores] == [5, 10, 12][: step - 8]


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_whoever_asks_before_validation_is_saved_first(tmp_path, monkeypatch):
  _with_validation(monkeypatch)
  flags_ = ("--validate_every=5", "--outer_steps=12", "--result=best")
  whole, _ = _run(tmp_path / "a", monkeypatch, *flags_)
  wanted = tiny_runs.rows(tmp_path / "a" / "run", "validation.jsonl")
  measure = loop._row
  for step, done in ((10, [0, 5]), (12, [0, 5, 10])):
    with monkeypatch.context() as patch:

      def stopped(outer_step, *rest, at=step):
        if outer_step == at:
          signal.raise_signal(signal.SIGTERM)
        return measure(outer_step, *rest)

      patch.setattr(loop, "_row", stopped)
      with pytest.raises(signals.Stopped, match=f"outer step {step} is saved"):
        _run(tmp_path / "b", patch, *flags_)
    run = tmp_path / "b" / "run"
    scores = tiny_runs.rows(run, "validation.jsonl")
    assert [row["outer_step"] for row in scores] == done
  parts, _ = _run(tmp_path / "b", monkeypatch, *flags_)
  np.testing.assert_array_equal(parts, whole)
  assert tiny_runs.rows(run, "validation.jsonl") == wanted


def _with_losses(monkeypatch, *losses):
  """Makes the validation find these, one after the other."""
  _with_validation(monkeypatch)
  left = list(losses)
  monkeypatch.setattr(
    Validation, "losses", lambda self, theta: np.array([left.pop(0)])
  )


BEST = ("--outer_steps=5", "--validate_every=5", "--result=best")


def test_the_best_of_no_scores_is_told(
  tmp_path, monkeypatch, capsys, four_steps
):
  _with_losses(monkeypatch, *[np.nan] * 4)
  _run(tmp_path, monkeypatch, *BEST, f"--init_from={four_steps[1]}")
  assert "there is no validation score" in capsys.readouterr().err


def test_a_run_that_only_gets_worse_has_its_start_for_result(
  tmp_path, monkeypatch, capsys, four_steps
):
  start, _ = _run(tmp_path / "a", monkeypatch, "--outer_steps=0")
  # Untrained, and after five outer steps.
  _with_losses(monkeypatch, 2.0, 2.5)
  found, _ = _run(tmp_path / "b", monkeypatch, *BEST)
  np.testing.assert_array_equal(found, start)
  told = capsys.readouterr()
  assert "was better than that of the theta which the run began" in told.err
  assert "after outer step 0, validation score +0\n" in told.out
  # Given weights are scored too, and what is better than they are is told.
  file = four_steps[1]
  _with_losses(monkeypatch, 2.0, 1.75, 1.5)
  found, _ = _run(tmp_path / "c", monkeypatch, *BEST, f"--init_from={file}")
  assert np.any(found != four_steps[0])
  told = capsys.readouterr()
  assert "was better" not in told.err
  assert "after outer step 5, validation score -0.5\n" in told.out
  scores = tiny_runs.rows(tmp_path / "c" / "run", "validation.jsonl")
  assert [(row["outer_step"], row["score"]) for row in scores] == [
    (0, -0.25),
    (5, -0.5),
  ]
  record = flt_lopt.read_provenance(tmp_path / "c/run/theta.safetensors")
  assert record["validation"] == {"outer_step": 5, "score": -0.5}


def test_a_page_tells_which_weights_were_evaluated(
  tmp_path, monkeypatch, capsys
):
  pytest.importorskip("matplotlib")
  flags_ = ("--evaluate", "--eval_steps=5", "--eval_seeds=2")
  _run(tmp_path, monkeypatch, *flags_, "--outer_steps=3")
  page = tmp_path / "run" / "report.html"
  assert "Of the weights after" not in page.read_text()
  _run(tmp_path, monkeypatch, "--outer_steps=6", "--report_every=99")
  assert "after 3 outer steps; the run has done 6." in page.read_text()
  assert "report     " in capsys.readouterr().out
  # What this start has not made is not shown for its own.
  _run(tmp_path, monkeypatch, "--outer_steps=6", "--report_every=0")
  told = capsys.readouterr().out
  assert "optimizer" in told
  assert "report     " not in told and "pictures   " not in told


def test_a_longer_run_tells_what_becomes_of_its_rate(
  tmp_path, monkeypatch, capsys
):
  flags_ = ("--outer_decay=-1",)
  for steps, warned in ((2, False), (4, True), (4, False)):
    _run(tmp_path, monkeypatch, *flags_, f"--outer_steps={steps}")
    told = capsys.readouterr()
    words = "--outer_steps, which was 2 and is 4: the outer rate jumps up"
    assert (words in told.err) == warned
    assert "from here (the outer rate jumps up and falls anew" in told.out


def test_a_missing_file_of_a_task_is_no_full_disk(tmp_path, monkeypatch):
  def broken(*args, **kwargs):
    (tmp_path / "elsewhere.npz").read_bytes()

  monkeypatch.setattr(evaluate, "evaluate_run", broken)
  with pytest.raises(FileNotFoundError, match="elsewhere"):
    _run(tmp_path, monkeypatch, "--outer_steps=2", "--evaluate")


def test_rows_tell_what_happens(tmp_path, monkeypatch):
  _, rows = _run(tmp_path, monkeypatch, "--outer_steps=10", "--log_every=4")
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
  _run(tmp_path, monkeypatch, "--outer_steps=4")
  assert "meta-training on Tiny: 4 outer steps" in capsys.readouterr().err
  with pytest.raises(UserError, match="--outer_steps=2 is less than the 4"):
    _run(tmp_path, monkeypatch, "--outer_steps=2")
  assert "meta-training on" not in capsys.readouterr().err


def test_validation_without_validation_tasks_is_refused(tmp_path, monkeypatch):
  with pytest.raises(UserError, match="validate_every=5, but there are no"):
    _run(tmp_path, monkeypatch, "--validate_every=5")
  assert not (tmp_path / "run").exists()


def test_a_run_starts_from_weights_of_its_own_kind(
  tmp_path, monkeypatch, four_steps
):
  first, file = four_steps
  same, _ = _run(
    tmp_path / "b", monkeypatch, f"--init_from={file}", "--outer_steps=0"
  )
  np.testing.assert_array_equal(same, first)
  further, _ = _run(
    tmp_path / "c", monkeypatch, f"--init_from={file}", "--outer_steps=2"
  )
  assert np.any(further != first)
  with pytest.raises(UserError) as caught:
    _run(tmp_path / "d", monkeypatch, f"--init_from={file}", "--hidden_units=3")
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
  begun, _ = _run(tmp_path / "b", monkeypatch, *flags_, "--outer_steps=0")
  np.testing.assert_array_equal(begun, first)
  whole, _ = _run(tmp_path / "c", monkeypatch, *flags_, "--outer_steps=6")
  _run(tmp_path / "d", monkeypatch, *flags_, "--outer_steps=4")
  file.unlink()
  parts, _ = _run(tmp_path / "d", monkeypatch, *flags_, "--outer_steps=6")
  np.testing.assert_array_equal(parts, whole)
  assert np.any(whole != first)
  with pytest.raises(flt_lopt.WeightsError, match="start"):
    _run(tmp_path / "e", monkeypatch, *flags_, "--outer_steps=6")


def test_a_run_killed_in_its_first_checkpoint_starts_from_its_weights(
  tmp_path, monkeypatch, four_steps
):
  _, file = four_steps
  flags_ = (f"--init_from={file}", "--outer_steps=6")
  expected, _ = _run(tmp_path / "b", monkeypatch, *flags_)
  # What a kill leaves of a checkpoint that was being written, and what
  # programs of others leave anywhere.
  checkpoints = tmp_path / "c" / "run" / "checkpoints"
  with monkeypatch.context() as patch:
    patch.setattr(loop, "_save", _raise_stopped)
    with pytest.raises(signals.Stopped):
      _run(tmp_path / "c", patch, *flags_)
  checkpoints.mkdir()
  for name in (".step-00000004.safetensors.1.partial", ".DS_Store"):
    (checkpoints / name).write_bytes(b"half")
  again, _ = _run(tmp_path / "c", monkeypatch, *flags_)
  np.testing.assert_array_equal(again, expected)


def _raise_stopped(*arguments):
  raise signals.Stopped(signal.SIGTERM)


def test_a_run_starts_from_shipped_weights(tmp_path, monkeypatch):
  flags_ = ("--init_from=flt-starter", "--outer_steps=0", "--controller=")
  flags_ += ("--hidden_units=0",)
  same = ["--variant=linear", "--geometry=normalized"]
  with pytest.raises(UserError, match=f"as by {' '.join(same)}$"):
    _run(tmp_path / "a", monkeypatch, *flags_)
  found, _ = _run(tmp_path / "b", monkeypatch, *flags_, *same)
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
  _run(tmp_path, monkeypatch, *flags_)
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
