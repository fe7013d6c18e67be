"""What standings lack, in sentences.

Idea: nothing is left out silently. Runs, tasks and envelopes that are not
there are told, those that lack the same tasks in one sentence.

Names: `gaps`, `few_common`.
"""

from meta_train.evaluation.baseline_runs import REFERENCE
from meta_train.evaluation.standings import Standings


def gaps(
  found: Standings, num_seeds: int | None, *, speed_ups: bool = True
) -> list[str]:
  """Returns a sentence for each thing that is missing.

  Args:
    found: the results.
    num_seeds: how many runs each optimizer should have on each task; `None`:
      as many as the one with most.
    speed_ups: whether an envelope is needed.
  """
  problems = []
  if not found.tasks:
    return ["there are no results."]
  if not found.candidates:
    problems.append("there are no runs of an optimizer under evaluation.")
  where: dict[tuple[str, ...], list[str]] = {}
  for name in found.optimizers:
    there = [task for task in found.tasks if name not in found.runs[task]]
    if there:
      where.setdefault(tuple(there), []).append(name)
  problems += [
    f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} no runs on "
    f"{len(tasks)} of {len(found.tasks)} tasks: {', '.join(tasks)}."
    for tasks, names in where.items()
  ]
  most = num_seeds or max(
    len(runs.seeds) for each in found.runs.values() for runs in each.values()
  )
  problems += [
    f"{task}: {name} lacks {most - len(runs.seeds)} of {most} runs; "
    "comparisons use the seeds that are there."
    for task, each in found.runs.items()
    for name, runs in each.items()
    if len(runs.seeds) < most
  ]
  if REFERENCE in found.baselines:
    lacking = [task for task in found.tasks if task not in found.envelopes]
    if lacking and speed_ups:
      problems.append(
        f"{REFERENCE} has no envelope on {', '.join(lacking)}: there are no "
        "speed-ups there."
      )
  else:
    problems.append(
      f"there are no runs of {REFERENCE}, which speed-ups and ratios are "
      "measured against."
    )
  return problems


def few_common(found: Standings) -> list[str]:
  """Says when ranks and profile leave tasks out.

  Args:
    found: the results.
  """
  count, all_tasks = len(found.common_tasks), len(found.tasks)
  if count == all_tasks:
    return []
  return [
    f"ranks and the performance profile are of {count} of {all_tasks} tasks, "
    "those that all optimizers have runs on."
  ]
