"""What an evaluation consists of: candidates, baselines and settings as jobs.

Baselines are computed after the candidates, whose first losses say which of
the shipped ones were measured on other data.

Names: `Plan`, `make_jobs`, `baseline_jobs`, `shipped_baselines`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from meta_train.evaluation import (
  baseline_files,
  baseline_results,
  evaluate,
  jobs,
)
from meta_train.evaluation.baseline_runs import REFERENCE, baseline_job
from meta_train.evaluation.baselines import Baseline
from meta_train.evaluation.candidates import Candidate
from meta_train.evaluation.definition import definition
from meta_train.evaluation.sweeps import Setting
from meta_train.rows import Row


class Plan(NamedTuple):
  """What to evaluate.

  Attributes:
    tasks: inner tasks.
    candidates: optimizers under evaluation.
    baselines: hand-designed optimizers to compare with.
    settings: of sweeps; none for the plain evaluation.
    num_steps: inner steps of a run.
    num_seeds: runs of each optimizer on each task.
    compute_baselines: whether to compute baselines that don't ship.
    options: further ones of `evaluate.run_curves`.
  """

  tasks: Sequence[Any]
  candidates: Sequence[Candidate]
  baselines: Sequence[Baseline]
  settings: Sequence[Setting]
  num_steps: int
  num_seeds: int
  compute_baselines: bool
  options: dict[str, Any]


def make_jobs(plan: Plan) -> tuple[list[jobs.Job], list[str]]:
  """Returns all jobs, and a sentence for each that can't be.

  Of a plain evaluation they are those of candidates alone.

  Args:
    plan: what to evaluate.
  """
  if plan.settings:
    return _sweep_jobs(plan)
  return [
    evaluate.candidate_job(
      task,
      candidate,
      num_steps=plan.num_steps,
      seeds=_seeds(plan),
      **plan.options,
    )
    for task in plan.tasks
    for candidate in plan.candidates
  ], []


def _seeds(plan: Plan) -> range:
  return range(plan.num_seeds)


def baseline_jobs(plan: Plan, rows: Sequence[Row]) -> list[jobs.Job]:
  """Returns jobs for the baselines that don't ship, or not for these runs.

  Args:
    plan: what to evaluate; of sweeps, `make_jobs` makes these too.
    rows: the candidates' rows.
  """
  if plan.settings or not plan.compute_baselines:
    return []
  return [
    baseline_job(
      task,
      baseline,
      num_steps=plan.num_steps,
      seeds=_seeds(plan),
      **plan.options,
    )
    for task in plan.tasks
    for shipped in (_shipped(plan, task, rows)[0],)
    for baseline in plan.baselines
    if baseline.name not in shipped
  ]


def _shipped(
  plan: Plan, task: Any, rows: Sequence[Row]
) -> tuple[dict[str, list[Row]], list[str]]:
  """Returns a task's shipped rows that started as the candidates' did."""
  shipped, refused = baseline_results.read(
    task,
    plan.baselines,
    num_steps=plan.num_steps,
    num_seeds=plan.num_seeds,
  )
  # Those of earlier evaluations may have had other data.
  defined = definition(task)
  names = {
    variant.optimizer
    for candidate in plan.candidates
    for variant in candidate.variants
  }
  plain = [
    row
    for row in rows
    if row["task"] == task.name
    and row["setting"] is None
    and row["definition"] == defined
    and row["optimizer"] in names
  ]
  shipped, unpaired = baseline_results.check_paired(plain, shipped)
  return shipped, [*refused, *unpaired]


def lacking_baselines(plan: Plan, rows: Sequence[Row]) -> list[str]:
  """Says, before anything runs, which shipped baselines there won't be.

  Args:
    plan: what to evaluate.
    rows: what the folder has; a baseline that was computed is not lacking.
  """
  if plan.settings or plan.compute_baselines:
    return []
  sentences: list[str] = []
  for task in plan.tasks:
    there = _computed(task, rows)
    wanted = [each for each in plan.baselines if each.name not in there]
    if wanted:
      sentences += baseline_results.read(
        task, wanted, num_steps=plan.num_steps, num_seeds=plan.num_seeds
      )[1]
  return sentences


def _computed(task: Any, rows: Sequence[Row]) -> set[str]:
  """Returns which optimizers have rows of a task that don't ship."""
  defined = definition(task)
  return {
    row["optimizer"]
    for row in rows
    if row["task"] == task.name
    and row["setting"] is None
    and row.get("definition") == defined
    and not baseline_results.is_shipped(row)
  }


def shipped_baselines(
  plan: Plan, rows: Sequence[Row]
) -> tuple[list[Row], list[str]]:
  """Returns the shipped rows to compare with, and what is wrong with others.

  Args:
    plan: what to evaluate.
    rows: the candidates' rows, which must have started from the same losses.
  """
  if plan.settings:
    return [], []
  found: list[Row] = []
  problems: list[str] = []
  for task in plan.tasks:
    shipped, refused = _shipped(plan, task, rows)
    computed = _computed(task, rows)
    wanted = {baseline.name for baseline in plan.baselines}
    if not wanted <= computed | set(shipped):
      problems += refused
    for name, group in shipped.items():
      found += baseline_results.mark(group, name, task.name)
    results = baseline_files.load(baseline_files.path_of(task))
    if results is not None:
      problems += baseline_results.of_other_versions(results.header, shipped)
  return found, problems


def _sweep_jobs(plan: Plan) -> tuple[list[jobs.Job], list[str]]:
  made, problems = [], []
  for task in plan.tasks:
    for setting in plan.settings:
      changed = setting.change(task)
      if changed is None:
        problems.append(setting.refusal(task.name))
        continue
      shared: dict[str, Any] = {
        "num_steps": plan.num_steps * setting.steps,
        "seeds": _seeds(plan),
        "setting": setting.fields,
        "loss_scale": setting.loss_scale,
        **plan.options,
      }
      problems += setting.too_short(shared["num_steps"])
      told = round(shared["num_steps"] * setting.told)
      told = max(told, 1) if setting.told else 0
      for candidate in plan.candidates:
        if not told and candidate.needs_num_steps(changed):
          problems.append(setting.refusal(candidate.name))
          continue
        made.append(
          evaluate.candidate_job(changed, candidate, told_steps=told, **shared)
        )
      # A baseline that is not told the steps wrongly is as it was.
      if setting.told == 1:
        made += [
          baseline_job(changed, _cheaper(baseline), reference_steps=0, **shared)
          for baseline in plan.baselines
        ]
  return made, list(dict.fromkeys(problems))


def _cheaper(baseline: Baseline) -> Baseline:
  """Tunes on one seed, also the reference: a sweep has many settings."""
  return dataclasses.replace(baseline, tuned_apart=True)


#: The baseline that sweeps compare with unless told otherwise.
SWEEP_BASELINE = REFERENCE
