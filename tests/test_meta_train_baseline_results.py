"""Shipped baselines: found, refused when they no longer apply, continued."""

import dataclasses
import gzip

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tasks
from meta_train import make_baselines
from meta_train.evaluation import (
  baseline_results,
  baseline_runs,
  baselines,
  evaluation_folder,
  evaluation_plan,
  folder_lock,
)
from meta_train.evaluation.candidates import Candidate, Variant
from meta_train.evaluation.definition import definition
from tasks.base import Task

STEPS, SEEDS = 12, 2
ADAM = baselines.get_baseline("adam", rates=(0.01, 0.1, 0.3))
SGD = baselines.Baseline(
  "sgd",
  "optax.sgd",
  lambda rate, steps: optax.sgd(rate),
  (0.01, 0.3, 1e3),
  tuned_apart=True,
)


class Quadratic(Task):
  """Distance to a point; each seed starts elsewhere."""

  name = "quadratic"
  size = 4
  offset = 0.0

  def init(self, key):
    return jnp.sin(jnp.arange(float(self.size)) + jax.random.uniform(key))

  def loss(self, params, key, data):
    del key, data
    return jnp.sum(params**2) + self.offset


def _make(folder, wanted=(ADAM, SGD), task=None):
  said = []
  make_baselines.make(
    [task or Quadratic()],
    wanted,
    folder,
    num_steps=STEPS,
    num_seeds=SEEDS,
    provenance={"versions": {"jax": jax.__version__}, "device_kind": "cpu"},
    on_job=said.append,
  )
  return said


def _read(folder, wanted=(ADAM, SGD), task=None, **changes):
  settings = {"num_steps": STEPS, "num_seeds": SEEDS, **changes}
  return baseline_results.read(
    task or Quadratic(), wanted, folder=folder, **settings
  )


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  folder = tmp_path_factory.mktemp("results")
  assert len(_make(folder)) == 2
  return folder


@pytest.fixture
def copy(made, tmp_path):
  for path in made.iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  return tmp_path


def test_adam_has_all_runs_and_an_envelope_of_twice_the_steps(made):
  found, problems = _read(made)
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


def test_others_are_tuned_on_a_seed_of_their_own(made):
  rows = _read(made)[0]["sgd"]
  tuning = [row for row in rows if row["role"] == "tuning"]
  runs = [row for row in rows if row["role"] == "baseline"]
  assert [row["seed"] for row in tuning] == [baseline_runs.TUNING_SEED] * 3
  assert [row["seed"] for row in runs] == list(range(SEEDS))
  assert {row["learning_rate"] for row in runs} == {0.3}
  assert any(row["diverged"] for row in tuning)  # The largest rate.
  assert not {row["first_loss"] for row in tuning} & {
    row["first_loss"] for row in runs
  }


def test_provenance_is_in_the_file(made):
  header = baseline_results.load(made / "quadratic.jsonl.gz").header
  assert header["seeds"] == list(range(SEEDS))
  for name in ("adam", "sgd"):
    provenance = header["provenance"][name]
    assert provenance["versions"]["jax"] == jax.__version__
    assert provenance["device_kind"] == "cpu" and provenance["wall_s"] > 0
  assert header["baselines"]["sgd"][1] == [0.01, 0.3, 1e3]


def test_nothing_is_computed_twice_and_files_are_reproducible(copy):
  before = (copy / "quadratic.jsonl.gz").read_bytes()
  assert _make(copy) == []
  assert (copy / "quadratic.jsonl.gz").read_bytes() == before


def test_another_grid_is_refused_and_only_it_is_made_anew(copy):
  other = dataclasses.replace(SGD, rates=(0.02, 0.2))
  found, problems = _read(copy, wanted=(ADAM, other))
  assert set(found) == {"adam"}
  assert "sgd" in problems[0] and "another grid" in problems[0]
  (said,) = _make(copy, wanted=(ADAM, other))
  assert "sgd" in said
  found, problems = _read(copy, wanted=(ADAM, other))
  assert problems == []
  assert {row["learning_rate"] for row in found["sgd"]} == {0.02, 0.2}


def test_a_revision_of_what_is_computed_is_another_definition(monkeypatch):
  task = tasks.registry.task("quadratic_16", "held_out")
  before = definition(task)
  assert before == definition(tasks.registry.task("quadratic_16", "held_out"))
  monkeypatch.setattr(type(task.family), "revision", 7)
  assert definition(task) != before


def test_another_definition_is_refused(made):
  task = Quadratic()
  task.size = 5
  found, problems = _read(made, task=task)
  assert found == {}
  assert "another definition" in problems[0]
  assert "python -m meta_train.make_baselines" in problems[0]


@pytest.mark.parametrize(
  "changes", [{"num_steps": STEPS + 1}, {"num_seeds": SEEDS + 1}]
)
def test_other_steps_or_more_seeds_are_refused(made, changes):
  found, problems = _read(made, **changes)
  assert found == {} and "refused" in problems[0]


def test_fewer_seeds_are_fine(made):
  found, problems = _read(made, num_seeds=1)
  assert problems == []
  assert {row["seed"] for row in found["sgd"]} == {0, 1000}


def test_changed_data_is_found_by_the_initial_losses(made):
  shipped, _ = _read(made)
  starts = {
    row["seed"]: row["first_loss"]
    for row in shipped["adam"]
    if row["role"] == "baseline"
  }
  rows = [{"seed": seed, "first_loss": x} for seed, x in starts.items()]
  kept, problems = baseline_results.check_paired(rows, shipped)
  assert set(kept) == {"adam", "sgd"} and problems == []
  rows[0]["first_loss"] *= 1.01
  kept, problems = baseline_results.check_paired(rows, shipped)
  assert kept == {} and len(problems) == 2
  assert "started from other losses" in problems[0]


def test_missing_and_damaged_files_are_told(tmp_path):
  assert "no shipped baselines" in _read(tmp_path)[1][0]
  path = baseline_results.path_of(Quadratic(), tmp_path)
  for content in (b"", b"no gzip", gzip.compress(b"no json")):
    path.write_bytes(content)
    assert baseline_results.load(path) is None
  path.write_bytes(gzip.compress(b'{"kind": "flt_lopt baseline'))
  assert _read(tmp_path)[0] == {}


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
  assert (tmp_path / "griewank.jsonl.gz").exists()


def _candidate_row(made, **changes):
  """A row of an optimizer that started as seed 0 of the file's runs did."""
  header, rows = baseline_results.load(made / "quadratic.jsonl.gz")
  first = next(
    row["first_loss"]
    for row in rows
    if row["seed"] == 0 and row["role"] == "baseline"
  )
  fields = {"task": "quadratic", "optimizer": "ours", "role": "learned"}
  fields |= {"definition": header["definition"], "num_steps": STEPS}
  fields |= {"format": header["format"], "setting": None}
  return {**fields, "seed": 0, "first_loss": first, **changes}


def _beside(rows, folder, wanted=None, registered=(ADAM, SGD)):
  return _beside_and_told(rows, folder, wanted, registered)[0]


def _beside_and_told(rows, folder, wanted=None, registered=(ADAM, SGD)):
  return baseline_results.beside(rows, wanted, folder, registered=registered)


def test_a_baseline_of_ones_own_does_not_hide_the_shipped_others(made):
  ours = _candidate_row(made)
  own = {**ours, "optimizer": "sgd", "role": "baseline", "learning_rate": 0.3}
  found, problems = _beside_and_told([ours, own], made)
  assert {row["optimizer"] for row in found} == {"adam"} and problems == []


def test_what_is_not_put_beside_is_told(made):
  row = _candidate_row(made)
  other = dataclasses.replace(ADAM, rates=(0.02, 0.2))
  _, (said,) = _beside_and_told([row], made, registered=(other, SGD))
  assert said.startswith(
    "quadratic: the shipped results of adam are of another"
  )
  _, (said,) = _beside_and_told([{**row, "definition": "other"}], made)
  assert "another definition and were refused" in said
  _, said = _beside_and_told([{**row, "first_loss": 123.0}], made)
  assert len(said) == 2 and "started from other losses" in said[0]
  # A row without the loss says nothing.
  assert _beside_and_told([{**row, "first_loss": None}], made)[1] == []


def test_another_version_of_optax_is_told(copy, monkeypatch):
  path, row = copy / "quadratic.jsonl.gz", _candidate_row(copy, group="ours")
  file = baseline_results.load(path)
  file.header["provenance"]["sgd"]["versions"] = {"optax": "0.0.1"}
  baseline_results.write(path, file)
  found, (said,) = _beside_and_told([row], copy)
  assert {row["optimizer"] for row in found} == {"adam", "sgd"}
  assert "results of sgd are of optax 0.0.1" in said
  monkeypatch.setattr(baseline_results, "FOLDER", copy)
  plan = _plan(Quadratic())
  assert said in evaluation_plan.shipped_baselines(plan, [row])[1]


@pytest.mark.parametrize("name", ["num_final_batches", "smoothing"])
def test_another_way_of_measuring_is_refused(copy, name):
  path = copy / "quadratic.jsonl.gz"
  file = baseline_results.load(path)
  baseline_results.write(path, file._replace(header={**file.header, name: 0.5}))
  found, problems = _read(copy)
  assert found == {} and f"another {name}" in problems[0]


def test_provenance_is_of_what_is_there(copy):
  path = copy / "quadratic.jsonl.gz"
  file = baseline_results.load(path)
  baseline_results.write(
    path, file._replace(header={**file.header, "definition": "another"})
  )
  _make(copy, wanted=(SGD,))
  header = baseline_results.load(path).header
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
    baseline_results.load(path).header
    for path in sorted(baseline_results.FOLDER.glob("*.jsonl.gz"))
  ]
  names = {name for header in headers for name in header["baselines"]}
  today = {
    name: baseline_runs.action(baselines.get_baseline(name)) for name in names
  }
  for header in headers:
    for name in header["baselines"]:
      # Steps that are nothing but rounding don't count.
      least = 1e-4 * max(today[name][:-1])
      np.testing.assert_allclose(
        header["actions"][name],
        today[name],
        rtol=1e-3,
        atol=least,
        err_msg=f"{name} on {header['task']}: make it anew",
      )


def test_rows_of_candidates_get_the_shipped_ones_beside_them(made):
  found = _beside([_candidate_row(made)], made)
  assert {row["optimizer"] for row in found} == {"adam", "sgd"}
  assert {row["role"] for row in found} == {"baseline", "tuning", "envelope"}
  # Only seeds that the candidate has run, and the one for tuning.
  assert {row["seed"] for row in found} == {0, None, baseline_runs.TUNING_SEED}
  for row in found:
    same = [other for other in found if other["group"] == row["group"]]
    assert row["group_size"] == len(same) and row["setting"] is None


@pytest.mark.parametrize(
  "changes",
  [
    {"definition": "other"},
    {"num_steps": STEPS + 1},
    {"format": 1},
    {"seed": SEEDS},
    {"first_loss": 123.0},
    {"task": "unknown"},
    {"role": "baseline"},
  ],
)
def test_nothing_is_put_beside_what_it_does_not_fit(made, changes):
  row = _candidate_row(made, **changes)
  assert _beside([row], made) == []


def test_only_baselines_that_are_wanted_and_unchanged_are_put_beside(made):
  row = _candidate_row(made)
  assert _beside([row], made, wanted={}) == []
  found = _beside([row], made, wanted={"sgd": "its description"})
  assert {row["optimizer"] for row in found} == {"sgd"}
  other = dataclasses.replace(ADAM, rates=(0.02, 0.2))
  found = _beside([row], made, registered=(other, SGD))
  assert {row["optimizer"] for row in found} == {"sgd"}


@pytest.mark.parametrize(
  "changes", [{"format": 1}, {"tuning_seed": 7}, {"reference_steps": STEPS}]
)
def test_files_of_another_protocol_are_put_beside_nothing(copy, changes):
  row, path = _candidate_row(copy), copy / "quadratic.jsonl.gz"
  file = baseline_results.load(path)
  changed = file._replace(header={**file.header, **changes})
  baseline_results.write(path, changed)
  assert _beside([row], copy) == []


def test_old_shipped_rows_do_not_hide_that_new_ones_are_refused(
  made, monkeypatch
):
  monkeypatch.setattr(baseline_results, "FOLDER", made)
  plan = _plan(Quadratic())
  ours = _candidate_row(made, group="ours")
  shipped, problems = evaluation_plan.shipped_baselines(plan, [ours])
  assert problems == []
  assert {row["optimizer"] for row in shipped} == {"adam", "sgd"}

  # Another definition: the rows of the folder are of the old one.
  task = Quadratic()
  task.size = 5
  plan = _plan(task)
  keep = evaluation_folder.not_replaced(plan)
  assert not any(map(keep, shipped))
  new = {**ours, "definition": definition(task)}
  found, problems = evaluation_plan.shipped_baselines(plan, [*shipped, new])
  assert found == [] and "another definition" in problems[0]
  # Neither do those stay that this evaluation does not want, ...
  assert not any(map(evaluation_folder.not_replaced(_plan(task, ())), shipped))
  # ... while those of the same definition do.
  assert all(
    map(evaluation_folder.not_replaced(_plan(Quadratic(), ())), shipped)
  )


def test_what_started_from_other_losses_is_computed(made, monkeypatch):
  monkeypatch.setattr(baseline_results, "FOLDER", made)
  plan = _plan(Quadratic())._replace(compute_baselines=True)
  ours = _candidate_row(made, group="ours")
  assert evaluation_plan.baseline_jobs(plan, [ours]) == []
  ours["first_loss"] *= 1.01
  first, second = evaluation_plan.baseline_jobs(plan, [ours])
  assert "adam" in first.what and "sgd" in second.what
  # When they are there, there is nothing to tell.
  computed = [
    {**ours, "optimizer": name, "role": "baseline"} for name in ("adam", "sgd")
  ]
  rows = [ours, *computed]
  assert evaluation_plan.shipped_baselines(plan, rows) == ([], [])
  _, problems = evaluation_plan.shipped_baselines(plan, rows[:2])
  assert any("sgd started from other losses" in each for each in problems)


def test_envelopes_of_more_seeds_are_told(made, monkeypatch):
  monkeypatch.setattr(baseline_results, "FOLDER", made)
  plan = _plan(Quadratic())._replace(num_seeds=SEEDS - 1)
  ours = _candidate_row(made, group="ours")
  found, (sentence,) = evaluation_plan.shipped_baselines(plan, [ours])
  assert {row["optimizer"] for row in found} == {"adam", "sgd"}
  assert f"more than the {SEEDS - 1} seeds" in sentence
  assert "quadratic" in sentence


def _plan(task, wanted=(ADAM, SGD)):
  variants = (Variant("ours", "learned"),)
  return evaluation_plan.Plan(
    tasks=[task],
    candidates=[Candidate("ours", variants, None, jnp.zeros(1), "ours")],
    baselines=wanted,
    settings=[],
    num_steps=STEPS,
    num_seeds=SEEDS,
    compute_baselines=False,
    options={},
  )
