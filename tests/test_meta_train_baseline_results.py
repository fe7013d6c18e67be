"""Shipped baselines: found, put beside, refused when they no longer apply."""

import dataclasses
import gzip

import jax.numpy as jnp
import pytest
import tiny_baselines
from tiny_baselines import ADAM, SEEDS, SGD, STEPS, Quadratic

import tasks
from meta_train.evaluation import (
  baseline_files,
  baseline_results,
  baseline_runs,
  evaluation_folder,
  evaluation_plan,
  row_standings,
)
from meta_train.evaluation.candidates import Candidate, Variant
from meta_train.evaluation.definition import definition


def test_a_revision_of_what_is_computed_is_another_definition(monkeypatch):
  task = tasks.registry.task("quadratic_16", "held_out")
  before = definition(task)
  assert before == definition(tasks.registry.task("quadratic_16", "held_out"))
  monkeypatch.setattr(type(task.family), "revision", 7)
  assert definition(task) != before


def test_another_definition_is_refused(tiny_results):
  task = Quadratic()
  task.size = 5
  found, problems = tiny_baselines.read(tiny_results, task=task)
  assert found == {}
  assert "another definition" in problems[0]
  assert "python -m meta_train.make_baselines" in problems[0]


@pytest.mark.parametrize(
  "changes", [{"num_steps": STEPS + 1}, {"num_seeds": SEEDS + 1}]
)
def test_other_steps_or_more_seeds_are_refused(tiny_results, changes):
  found, problems = tiny_baselines.read(tiny_results, **changes)
  assert found == {} and "refused" in problems[0]


def test_fewer_seeds_are_fine(tiny_results):
  found, problems = tiny_baselines.read(tiny_results, num_seeds=1)
  assert problems == []
  assert {row["seed"] for row in found["sgd"]} == {0, 1000}


def test_changed_data_is_found_by_the_initial_losses(tiny_results):
  shipped, _ = tiny_baselines.read(tiny_results)
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
  assert "no shipped baselines" in tiny_baselines.read(tmp_path)[1][0]
  path = baseline_files.path_of(Quadratic(), tmp_path)
  for content in (b"", b"no gzip", gzip.compress(b"no json")):
    path.write_bytes(content)
    assert baseline_files.load(path) is None
  packed = gzip.compress(bytes(range(256)) * 8)
  for place in range(len(packed)):  # Some of these break the stream itself.
    broken = bytearray(packed)
    broken[place] ^= 0xFF
    path.write_bytes(broken)
    assert baseline_files.load(path) is None
  path.write_bytes(gzip.compress(b'{"kind": "flt_lopt baseline'))
  assert tiny_baselines.read(tmp_path)[0] == {}


def _candidate_row(tiny_results, **changes):
  """A row of an optimizer that started as seed 0 of the file's runs did."""
  header, rows = baseline_files.load(tiny_results / "quadratic.jsonl.gz")
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


def test_a_baseline_of_ones_own_does_not_hide_the_shipped_others(tiny_results):
  ours = _candidate_row(tiny_results)
  own = {**ours, "optimizer": "sgd", "role": "baseline", "learning_rate": 0.3}
  found, problems = _beside_and_told([ours, own], tiny_results)
  assert {row["optimizer"] for row in found} == {"adam"} and problems == []


def test_what_is_not_put_beside_is_told(tiny_results):
  row = _candidate_row(tiny_results)
  other = dataclasses.replace(ADAM, rates=(0.02, 0.2))
  _, (said,) = _beside_and_told([row], tiny_results, registered=(other, SGD))
  assert said.startswith(
    "quadratic: the shipped results of adam are of another"
  )
  _, (said,) = _beside_and_told([{**row, "definition": "other"}], tiny_results)
  assert "another definition and were refused" in said
  _, said = _beside_and_told([{**row, "first_loss": 123.0}], tiny_results)
  assert len(said) == 2 and "started from other losses" in said[0]
  # A row without the loss says nothing.
  assert _beside_and_told([{**row, "first_loss": None}], tiny_results)[1] == []


def test_another_version_of_optax_is_told(tiny_copy, monkeypatch):
  path, row = (
    tiny_copy / "quadratic.jsonl.gz",
    _candidate_row(tiny_copy, group="ours"),
  )
  file = baseline_files.load(path)
  file.header["provenance"]["sgd"]["versions"] = {"optax": "0.0.1"}
  baseline_files.write(path, file)
  found, (said,) = _beside_and_told([row], tiny_copy)
  assert {row["optimizer"] for row in found} == {"adam", "sgd"}
  assert "results of sgd are of optax 0.0.1" in said
  monkeypatch.setattr(baseline_files, "FOLDER", tiny_copy)
  plan = _plan(Quadratic())
  assert said in evaluation_plan.shipped_baselines(plan, [row])[1]


@pytest.mark.parametrize("name", ["num_final_batches", "smoothing"])
def test_another_way_of_measuring_is_refused(tiny_copy, name):
  path = tiny_copy / "quadratic.jsonl.gz"
  file = baseline_files.load(path)
  baseline_files.write(path, file._replace(header={**file.header, name: 0.5}))
  found, problems = tiny_baselines.read(tiny_copy)
  assert found == {} and f"another {name}" in problems[0]


def test_rows_of_candidates_get_the_shipped_ones_beside_them(tiny_results):
  found = _beside([_candidate_row(tiny_results)], tiny_results)
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
def test_nothing_is_put_beside_what_it_does_not_fit(tiny_results, changes):
  row = _candidate_row(tiny_results, **changes)
  assert _beside([row], tiny_results) == []


def test_only_baselines_that_are_wanted_and_unchanged_are_put_beside(
  tiny_results,
):
  row = _candidate_row(tiny_results)
  assert _beside([row], tiny_results, wanted={}) == []
  found = _beside([row], tiny_results, wanted={"sgd": "its description"})
  assert {row["optimizer"] for row in found} == {"sgd"}
  other = dataclasses.replace(ADAM, rates=(0.02, 0.2))
  found = _beside([row], tiny_results, registered=(other, SGD))
  assert {row["optimizer"] for row in found} == {"sgd"}


@pytest.mark.parametrize(
  "changes", [{"format": 1}, {"tuning_seed": 7}, {"reference_steps": STEPS}]
)
def test_files_of_another_protocol_are_put_beside_nothing(tiny_copy, changes):
  row, path = (
    _candidate_row(tiny_copy),
    tiny_copy / "quadratic.jsonl.gz",
  )
  file = baseline_files.load(path)
  changed = file._replace(header={**file.header, **changes})
  baseline_files.write(path, changed)
  assert _beside([row], tiny_copy) == []


def test_old_shipped_rows_do_not_hide_that_new_ones_are_refused(
  tiny_results, monkeypatch
):
  monkeypatch.setattr(baseline_files, "FOLDER", tiny_results)
  plan = _plan(Quadratic())
  ours = _candidate_row(tiny_results, group="ours")
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


def test_what_started_from_other_losses_is_computed(tiny_results, monkeypatch):
  monkeypatch.setattr(baseline_files, "FOLDER", tiny_results)
  plan = _plan(Quadratic())._replace(compute_baselines=True)
  ours = _candidate_row(tiny_results, group="ours")
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


def test_what_does_not_ship_is_told_before_anything_runs(
  tiny_results, monkeypatch
):
  monkeypatch.setattr(baseline_files, "FOLDER", tiny_results)
  plan = _plan(Quadratic())
  assert evaluation_plan.lacking_baselines(plan, []) == []
  more = plan._replace(num_steps=2 * plan.num_steps)
  (sentence,) = evaluation_plan.lacking_baselines(more, [])
  assert "another num_steps" in sentence and "--compute_baselines" in sentence
  computed = more._replace(compute_baselines=True)
  assert evaluation_plan.lacking_baselines(computed, []) == []
  none = more._replace(baselines=())
  assert evaluation_plan.lacking_baselines(none, []) == []
  # Nor is one lacking that this folder has from before.
  ours = _candidate_row(tiny_results, group="ours")
  rows = [{**ours, "optimizer": name} for name in ("adam", "sgd")]
  assert evaluation_plan.lacking_baselines(more, rows) == []


def test_envelopes_of_more_seeds_are_told(tiny_results, monkeypatch):
  monkeypatch.setattr(baseline_files, "FOLDER", tiny_results)
  plan = _plan(Quadratic())._replace(num_seeds=SEEDS - 1)
  ours = _candidate_row(tiny_results, group="ours")
  found, problems = evaluation_plan.shipped_baselines(plan, [ours])
  assert {row["optimizer"] for row in found} == {"adam", "sgd"}
  assert problems == []
  (envelope,) = (row for row in found if row["role"] == "envelope")
  assert envelope["seeds"] == list(range(SEEDS))
  # So it is told of the rows, wherever they are read.
  whole = next(row for row in found if row["curve"] and row["seed"] == 0)
  changes = {"optimizer": "ours", "role": "learned", "learning_rate": None}
  _, told = row_standings.standings([{**whole, **changes}, *found])
  assert any("means over other seeds than those of ours" in x for x in told)
  assert any("(quadratic)" in x for x in told)


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
