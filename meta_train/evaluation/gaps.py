"""What standings lack, in sentences.

Idea: nothing is left out silently. Runs, tasks, measures and envelopes that
are not there are told, those that lack the same tasks in one sentence.

Names: `gaps`, `few_common`.
"""

import collections
from collections.abc import Mapping

from meta_train.evaluation.baseline_files import REMAKE
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
  problems += _without_held_out(found) + _without_measure(found)
  if REFERENCE in found.baselines:
    problems += _unpaired(found)
    lacking = [task for task in found.tasks if task not in found.envelopes]
    if lacking and speed_ups:
      problems.append(
        f"{REFERENCE} has no envelope on {', '.join(lacking)}: there are no "
        "speed-ups there."
      )
    if speed_ups:
      problems += _other_seeds(found)
  else:
    problems.append(
      f"there are no runs of {REFERENCE}, which speed-ups and ratios are "
      "measured against."
    )
  return problems


def _without_held_out(found: Standings) -> list[str]:
  """Says which runs lack the held-out loss that others on the task have."""
  sentences = []
  for task in found.tasks:
    held_out = found.held_out[task]
    for name, runs in found.runs[task].items():
      lacking = set(runs.seeds) - set(held_out.get(name, ()))
      if held_out and lacking:
        sentences.append(
          f"{task}: {len(lacking)} of {len(runs.seeds)} runs of {name} have no "
          "held-out loss; comparisons by it use the others."
        )
  return sentences


def _without_measure(found: Standings) -> list[str]:
  """Says which optimizers lack a measure that others on the task have."""
  lacking: dict[str, collections.Counter[str]] = {}
  for task in found.tasks:
    each = {
      name: set(runs.final.get("valid", ())) - {"loss"}
      for name, runs in found.runs[task].items()
    }
    for measure in sorted(set().union(*each.values())):
      lacking.setdefault(measure, collections.Counter()).update(
        name for name in each if measure not in each[name]
      )
  return [
    f"{measure} was not measured, and is blank, on "
    f"{_by_count(counts, len(found.tasks))}; {REMAKE} measures it for shipped "
    "baselines."
    for measure, counts in lacking.items()
    if counts
  ]


def _by_count(counts: Mapping[str, int], num_tasks: int) -> str:
  """Says on how many tasks each optimizer lacks something."""
  names: dict[int, list[str]] = {}
  for name, count in counts.items():
    names.setdefault(count, []).append(name)
  return ", on ".join(
    f"{count} of {num_tasks} tasks for {', '.join(names[count])}"
    for count in sorted(names, reverse=True)
  )


def _unpaired(found: Standings) -> list[str]:
  """Says which candidates share no seed with the reference."""
  return [
    f"{task}: {name} and {REFERENCE} share no seed, and can't be compared."
    for task in found.tasks
    for name in found.candidates
    if {name, REFERENCE} <= set(found.runs[task])
    and set(found.runs[task][name].seeds).isdisjoint(
      found.runs[task][REFERENCE].seeds
    )
  ]


def _other_seeds(found: Standings) -> list[str]:
  """Says where an envelope is a mean over other seeds than a candidate's."""
  tasks: dict[str, list[str]] = {}
  for task, envelope in found.envelopes.items():
    for name in found.candidates:
      runs = found.runs[task].get(name)
      if runs and envelope.seeds not in (None, frozenset(runs.seeds)):
        tasks.setdefault(name, []).append(task)
  return [
    f"the envelopes of {REFERENCE} are means over other seeds than those of "
    f"{name}, whose speed-ups therefore depend on how easy its seeds are "
    f"({', '.join(there)}); evaluate it on as many seeds."
    for name, there in tasks.items()
  ]


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
    "those that all optimizers have runs on, from a seed in common."
  ]
