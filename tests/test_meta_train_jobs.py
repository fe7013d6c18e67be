"""Jobs: computed once, in order, side by side, and kept through a kill."""

import threading

import jax
import pytest

from meta_train import rows
from meta_train.errors import UserError
from meta_train.evaluation import jobs


def _job(name, ran, *, size=2, wait=None):
  def run(devices):
    if wait is not None:
      wait.wait(timeout=30)
    ran.append((name, len(devices)))
    return [{"seed": i, "what": name} for i in range(size)]

  return jobs.Job(group=name, what=f"does {name}", run=run)


def test_rows_are_in_the_order_of_the_jobs(tmp_path):
  path, ran, said = tmp_path / "rows.jsonl", [], []
  found = jobs.run_jobs(
    [_job("a", ran), _job("b", ran)], path, on_job=said.append
  )
  assert [row["what"] for row in found] == ["a", "a", "b", "b"]
  assert found == rows.read_rows(path).rows
  assert said == ["does a", "does b"]
  assert ran == [(name, len(jax.local_devices())) for name in "ab"]


def test_jobs_run_on_the_devices_that_they_are_given(tmp_path):
  path, ran = tmp_path / "rows.jsonl", []
  given = jax.local_devices()[1:3]
  assert len(given) == 2
  jobs.run_jobs([_job("a", ran), _job("b", ran)], path, devices=given)
  assert ran == [("a", 2), ("b", 2)]
  seen = []

  def run(devices):
    seen.extend(devices)
    return [{"seed": 0, "what": "c"}]

  made = [jobs.Job(name, "", run) for name in "cdef"]
  jobs.run_jobs(made, path, devices=given, side_by_side=True)
  assert len(seen) == 4 and set(seen) <= set(given)


def test_whole_groups_are_kept_and_others_made_again(tmp_path):
  path, ran = tmp_path / "rows.jsonl", []
  jobs.run_jobs([_job("a", ran), _job("b", ran)], path)
  lines = path.read_text().splitlines()
  path.write_text("\n".join([*lines[:3], lines[3][:20]]))
  ran.clear()
  said = []
  found = jobs.run_jobs(
    [_job("a", ran), _job("b", ran)], path, on_problem=said.append
  )
  assert said == ["rows.jsonl, line 4 is half written and was left out."]
  assert [name for name, _ in ran] == ["b"]
  assert path.read_text().splitlines() == lines and len(found) == 4


def test_lost_rows_of_others_are_told(tmp_path, capsys):
  path, ran = tmp_path / "rows.jsonl", []
  jobs.run_jobs([_job("a", ran), _job("b", ran)], path)
  assert capsys.readouterr().err == ""
  lines = path.read_text().splitlines()
  path.write_text("\n".join(lines[:3]))
  found = jobs.run_jobs([_job("c", ran)], path, keep=lambda row: True)
  assert [row["what"] for row in found] == ["a", "a", "c", "c"]
  (said,) = capsys.readouterr().err.splitlines()
  assert "1 of 2 rows of unknown on unknown" in said
  # What nobody wants, and what is made anew, is not missed.
  path.write_text("\n".join(lines[:3]))
  jobs.run_jobs([_job("c", ran)], path)
  path.write_text("\n".join(lines[:3]))
  jobs.run_jobs([_job("b", ran)], path, keep=lambda row: True)
  assert capsys.readouterr().err == ""


def test_rows_of_others_stay_only_if_wanted(tmp_path):
  path, ran = tmp_path / "rows.jsonl", []
  jobs.run_jobs([_job("a", ran), _job("b", ran)], path)
  kept = jobs.run_jobs(
    [_job("c", ran)], path, keep=lambda row: row["what"] == "a"
  )
  assert [row["what"] for row in kept] == ["a", "a", "c", "c"]
  dropped = jobs.run_jobs([_job("c", ran)], path)
  assert [row["what"] for row in dropped] == ["c", "c"]


def test_side_by_side_each_job_has_one_device_and_rows_stay_in_order(tmp_path):
  path, ran, gate = tmp_path / "rows.jsonl", [], threading.Event()

  def opens(devices):
    gate.set()
    return [{"seed": 0, "what": "b"}]

  # The first job can't end before the second, on another device, has begun.
  made = [_job("a", ran, wait=gate), jobs.Job("b", "does b", opens)]
  made += [_job(name, ran) for name in "cdef"]
  found = jobs.run_jobs(made, path, side_by_side=True)
  assert {size for _, size in ran} == {1}
  whats = [row["what"] for row in found]
  assert whats == sorted(whats) and len(whats) == 11
  assert found == rows.read_rows(path).rows


@pytest.mark.parametrize("side_by_side", [False, True])
def test_what_the_user_must_mend_stops_nothing_if_it_is_heard(
  tmp_path, side_by_side
):
  path, ran, heard = tmp_path / "rows.jsonl", [], []

  def fails(devices):
    raise UserError("mend me")

  made = [_job("a", ran), jobs.Job("x", "", fails), _job("b", ran)]
  found = jobs.run_jobs(
    made,
    path,
    side_by_side=side_by_side,
    on_failure=lambda job, error: heard.append((job.group, str(error))),
  )
  assert heard == [("x", "mend me")]
  assert [row["what"] for row in found] == ["a", "a", "b", "b"]
  with pytest.raises(UserError, match="mend me"):
    jobs.run_jobs(made, path, side_by_side=side_by_side)


def test_an_error_side_by_side_is_raised_and_finished_rows_stay(tmp_path):
  path, ran = tmp_path / "rows.jsonl", []

  def fails(devices):
    raise ValueError("no")

  made = [_job(name, ran) for name in "abc"]
  jobs.run_jobs(made[:2], path)
  with pytest.raises(ValueError, match="no"):
    jobs.run_jobs(
      [*made[:2], jobs.Job("x", "", fails), made[2]], path, side_by_side=True
    )
  kept = {row["what"] for row in rows.read_rows(path).rows}
  assert {"a", "b"} <= kept
