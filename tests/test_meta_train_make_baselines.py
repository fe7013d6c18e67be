"""Baselines are tuned, run and written once, and continued."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
import tiny_baselines
from tiny_baselines import ADAM, SEEDS, SGD, STEPS

from meta_train import make_baselines
from meta_train.evaluation import (
  baseline_files,
  baseline_runs,
  baselines,
  evaluate,
  folder_lock,
)


def test_adam_has_all_runs_and_an_envelope_of_twice_the_steps(tiny_results):
  found, problems = tiny_baselines.read(tiny_results)
  assert problems == []
  rows = found["adam"]
  runs = [row for row in rows if row["role"] == "baseline"]
  assert len(runs) == 3 * SEEDS
  with_curve = [row for row in runs if row["curve"]]
  assert {row["learning_rate"] for row in with_curve} == {0.3}
  assert len(with_curve) == SEEDS
  (envelope,) = (row for row in rows if row["role"] == "envelope")
  assert len(envelope["curve"]) == baseline_runs.BEYOND * STEPS
  assert envelope["curve"] == sorted(envelope["curve"], reverse=True)
  # The envelope can't be above the best rate's own runs.
  mean = sum(row["last_loss"] for row in with_curve) / SEEDS
  assert envelope["curve"][STEPS - 1] <= mean * 1.001


def test_others_are_tuned_on_a_seed_of_their_own(tiny_results):
  rows = tiny_baselines.read(tiny_results)[0]["sgd"]
  tuning = [row for row in rows if row["role"] == "tuning"]
  runs = [row for row in rows if row["role"] == "baseline"]
  assert [row["seed"] for row in tuning] == [baseline_runs.TUNING_SEED] * 3
  assert [row["seed"] for row in runs] == list(range(SEEDS))
  assert {row["learning_rate"] for row in runs} == {0.3}
  assert any(row["diverged"] for row in tuning)  # The largest rate.
  assert not {row["first_loss"] for row in tuning} & {
    row["first_loss"] for row in runs
  }


def test_provenance_is_in_the_file(tiny_results):
  header = baseline_files.load(tiny_results / "quadratic.jsonl.gz").header
  assert header["seeds"] == list(range(SEEDS))
  for name in ("adam", "sgd"):
    provenance = header["provenance"][name]
    assert provenance["versions"]["jax"] == jax.__version__
    assert provenance["device_kind"] == "cpu" and provenance["wall_s"] > 0
  assert header["baselines"]["sgd"][1] == [0.01, 0.3, 1e3]


def test_nothing_is_computed_twice_and_files_are_reproducible(
  tiny_copy,
):
  before = (tiny_copy / "quadratic.jsonl.gz").read_bytes()
  assert tiny_baselines.make(tiny_copy) == []
  assert (tiny_copy / "quadratic.jsonl.gz").read_bytes() == before


def test_another_grid_is_refused_and_only_it_is_made_anew(tiny_copy):
  other = dataclasses.replace(SGD, rates=(0.02, 0.2))
  found, problems = tiny_baselines.read(tiny_copy, wanted=(ADAM, other))
  assert set(found) == {"adam"}
  assert "sgd" in problems[0] and "another grid" in problems[0]
  (said,) = tiny_baselines.make(tiny_copy, wanted=(ADAM, other))
  assert "sgd" in said
  found, problems = tiny_baselines.read(tiny_copy, wanted=(ADAM, other))
  assert problems == []
  assert {row["learning_rate"] for row in found["sgd"]} == {0.02, 0.2}


def test_of_a_grown_grid_only_what_is_new_is_run(tiny_copy, monkeypatch):
  before = tiny_baselines.read(tiny_copy)[0]["sgd"]
  ran = []
  run_curves = evaluate.run_curves

  def recorded(task, candidate, *, seeds, **options):
    ran.append(([v.learning_rate for v in candidate.variants], [*seeds]))
    return run_curves(task, candidate, seeds=seeds, **options)

  monkeypatch.setattr(evaluate, "run_curves", recorded)
  tuning_seed = [baseline_runs.TUNING_SEED]

  def grown(*rates):
    ran.clear()
    other = dataclasses.replace(SGD, rates=rates)
    tiny_baselines.make(tiny_copy, wanted=(other,))
    found, problems = tiny_baselines.read(tiny_copy, wanted=(other,))
    assert problems == []
    rows = found["sgd"]
    tuned = [r["learning_rate"] for r in rows if r["role"] == "tuning"]
    assert tuned == list(rates)
    return rows

  # The best rate is still 0.3, and its runs are the same.
  rows = grown(0.01, 0.02, 0.3, 1e3)
  assert ran == [([0.02], tuning_seed)]
  assert [r for r in rows if r["role"] == "baseline"] == [
    r for r in before if r["role"] == "baseline"
  ]
  # Now another is: a gradient is 2 p, so a rate of 0.5 is exact.
  rows = grown(0.01, 0.3, 0.5)
  assert ran == [([0.5], tuning_seed), ([0.5], list(range(SEEDS)))]
  assert all(r["last_loss"] < 1e-9 for r in rows if r["learning_rate"] == 0.5)


def test_rows_of_other_code_are_not_kept(tiny_copy):
  """A baseline of the same name and grid that does something else."""
  other = dataclasses.replace(
    SGD, factory=lambda rate, steps: optax.sgd(0.5 * rate)
  )
  (said,) = tiny_baselines.make(tiny_copy, wanted=(other,))
  assert "sgd" in said
  found, _ = tiny_baselines.read(tiny_copy, wanted=(other,))
  tuning = {
    row["learning_rate"]: row["last_loss"]
    for row in found["sgd"]
    if row["role"] == "tuning"
  }
  assert tuning[0.3] > 1e-9  # Half of 0.3 is slow; 0.3 itself is not.


def test_a_longer_reference_is_made_once_and_kept(tiny_copy):
  def reference():
    found, problems = tiny_baselines.read(tiny_copy)
    assert problems == []
    (row,) = (r for r in found["adam"] if r["role"] == "envelope")
    return row["curve"]

  twice = reference()
  (said,) = tiny_baselines.make(tiny_copy, reference_steps=4 * STEPS)
  assert "adam" in said
  assert len(reference()) == 4 * STEPS
  # To the end of the shorter one it is the same envelope.
  np.testing.assert_allclose(reference()[: 2 * STEPS], twice, rtol=1e-5)
  for steps in (0, 3 * STEPS, 4 * STEPS):
    assert tiny_baselines.make(tiny_copy, reference_steps=steps) == []
  assert len(reference()) == 4 * STEPS


def test_only_what_was_not_measured_by_all_of_today_is_made_anew(
  tiny_copy,
):
  rated = tiny_baselines.Rated()
  (said,) = tiny_baselines.make(tiny_copy, wanted=(SGD,), task=rated)
  assert "sgd" in said
  assert tiny_baselines.make(tiny_copy, wanted=(SGD,), task=rated) == []
  found, problems = tiny_baselines.read(tiny_copy)
  assert problems == []  # What lacks a measure can be used.
  assert all(
    set(measured) == ({"loss", "accuracy"} if name == "sgd" else {"loss"})
    for name, group in found.items()
    for row in group
    for measured in row["final"].values()
  )


def test_unknown_names_suggest_the_right_ones(capsys):
  assert make_baselines.main(["--baselines=adma"]) == 2
  assert "Did you mean 'adam'" in capsys.readouterr().err
  assert make_baselines.main(["--stepps=3"]) == 2
  assert "did you mean --steps" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--steps=12", "--seeds=2"])
def test_the_packages_own_results_are_not_overwritten(flag, capsys):
  assert make_baselines.main([flag]) == 2
  assert "would overwrite the package's own" in capsys.readouterr().err


def test_two_programs_do_not_write_the_same_files(tmp_path, capsys):
  flags = [f"--folder={tmp_path}", "--steps=2", "--seeds=1"]
  flags += ["--task_suite=validation_small", "--tasks=griewank"]
  with folder_lock.hold(tmp_path):
    assert make_baselines.main([*flags, "--baselines=sgd"]) == 2
  said = capsys.readouterr().err
  assert "being written by another program" in said and said.count("\n") == 1
  assert make_baselines.main([*flags, "--baselines=sgd"]) == 0
  made = (tmp_path / "griewank.jsonl.gz").read_bytes()
  # Nor does one replace what it took long to make.
  flags[2] = "--seeds=2"
  assert make_baselines.main([*flags, "--baselines=sgd"]) == 2
  assert "holds runs of 2 steps and 1 seeds" in capsys.readouterr().err
  assert (tmp_path / "griewank.jsonl.gz").read_bytes() == made


def test_provenance_is_of_what_is_there(tiny_copy):
  path = tiny_copy / "quadratic.jsonl.gz"
  file = baseline_files.load(path)
  baseline_files.write(
    path, file._replace(header={**file.header, "definition": "another"})
  )
  tiny_baselines.make(tiny_copy, wanted=(SGD,))
  header = baseline_files.load(path).header
  for field in ("baselines", "provenance", "actions"):
    assert set(header[field]) == {"sgd"}


def test_an_action_changes_with_what_the_factory_does():
  measured = baseline_runs.action(SGD)
  assert measured == baseline_runs.action(SGD)
  changed = dataclasses.replace(
    SGD, factory=lambda rate, steps: optax.sgd(rate, momentum=0.01)
  )
  assert not np.allclose(baseline_runs.action(changed), measured, rtol=1e-3)


def test_shipped_baselines_still_do_what_they_did_when_measured():
  headers = [
    baseline_files.load(path).header
    for path in sorted(baseline_files.FOLDER.glob("*.jsonl.gz"))
  ]
  for header in headers:
    for name in header["baselines"]:
      today = baselines.get_baseline(name)
      assert baseline_runs.acts_as(today, header["actions"][name]), (
        f"{name} on {header['task']}: make it anew"
      )
