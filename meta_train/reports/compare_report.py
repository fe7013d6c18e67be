"""The report of a comparison: one page, one table, one file of numbers.

Idea: nothing is computed here that the runs' folders and the evaluation's rows
do not hold, so the page can be made again at any time, also while runs are
missing; what is missing is listed on it. What the evaluation's own page says
of tasks and baselines stays there.

Names: `write_report`, `headlines`, `MARKDOWN`.
"""

import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from meta_train.comparing import compare_folder, kept_runs
from meta_train.comparing.members import shown
from meta_train.comparing.outcomes import Outcome, outcome
from meta_train.evaluation import row_standings
from meta_train.evaluation.evaluate import FILE_NAME
from meta_train.evaluation.row_checks import whole_rows
from meta_train.evaluation.standings import Standings
from meta_train.reports import compare_plots, compare_tables, tables
from meta_train.reports import report_html as html
from meta_train.reports.report_parts import (
  PICTURES,
  REPORT,
  Picture,
  draw,
  problem_list,
)
from meta_train.rows import Row, read_rows, write_text

MARKDOWN = "compare.md"


class Comparison(NamedTuple):
  """What the folder of a comparison holds.

  Attributes:
    path: the folder.
    plan: what is compared.
    outcomes: of all values, the reference first.
    problems: a sentence for each thing that is missing.
  """

  path: pathlib.Path
  plan: compare_folder.Plan
  outcomes: list[Outcome]
  problems: list[str]


def read_folder(folder: str | os.PathLike) -> Comparison:
  """Reads the folder of a comparison.

  Args:
    folder: the folder.

  Raises:
    UserError: it is none.
  """
  path = pathlib.Path(folder)
  plan = compare_folder.read(path)
  runs, problems = kept_runs.read(path, plan)
  found, missing = _standings(path, plan)
  return Comparison(
    path,
    plan,
    [outcome(found, value, runs, reference=plan.reference) for value in runs],
    [*problems, *missing],
  )


def _standings(
  path: pathlib.Path, plan: compare_folder.Plan
) -> tuple[Standings, list[str]]:
  """Returns the evaluation of the runs, and what is missing of it."""
  file = path / compare_folder.EVALUATION / FILE_NAME
  rows = read_rows(file, required=row_standings.REQUIRED)
  whole, damaged = whole_rows(rows.rows)
  names = {name for each in plan.runs.values() for name in each}
  tasks = plan.evaluation["tasks"]
  kept, outdated = row_standings.of_newest_definition(
    row
    for row in whole
    if row["setting"] is None
    and row["optimizer"] in names
    and row["task"] in tasks
  )
  found = row_standings.of_rows(kept)
  lacking = [
    f"{task}: there are no rows of {', '.join(missing)}; values are compared "
    "on the tasks that all their runs have."
    for task in tasks
    if (missing := sorted(names - set(found.runs.get(task, ()))))
  ]
  if not rows.rows:
    lacking = ["nothing is evaluated yet."]
  return found, [
    f"{compare_folder.EVALUATION}: {problem}"
    for problem in (*(rows.problems if rows.rows else ()), *damaged, *outdated)
  ] + lacking


def headlines(folder: str | os.PathLike) -> list[str]:
  """Returns one sentence for each value, for a terminal.

  Args:
    folder: of the comparison.
  """
  return compare_tables.sentences(read_folder(folder).outcomes)


def write_report(folder: str | os.PathLike) -> pathlib.Path:
  """Makes table, pictures and page of a comparison from what its folder holds.

  Args:
    folder: of the comparison.

  Returns:
    The page, `report.html` in that folder; `compare.md` has the same as
    Markdown and `compare.json` as numbers.

  Raises:
    UserError: it is no such folder.
  """
  found = read_folder(folder)
  table = compare_tables.table(found.plan.setting, found.outcomes)
  tasks = found.plan.evaluation["tasks"]
  notes = [
    table.note,
    compare_tables.chosen_by(found.outcomes, tasks),
    _evaluation(found.plan.evaluation),
    _meanings(found.plan.flags),
  ]
  table = table._replace(note=" ".join(filter(None, notes)))
  pictures = list(_pictures(found))
  drawn, problems = draw(found.path, pictures)
  problems = [*found.problems, *problems]
  write_text(
    found.path / MARKDOWN, _markdown(table, pictures[: len(drawn)], problems)
  )
  target = found.path / REPORT
  write_text(target, _page(found, table, drawn, problems))
  compare_folder.add_results(
    found.path,
    {
      "results": [_numbers(each) for each in found.outcomes],
      "text": table.note,
      "problems": problems,
    },
  )
  return target


def _evaluation(about: Row) -> str:
  return (
    f"Evaluated on {len(about['tasks'])} tasks of {about['task_suite']}, "
    f"{about['num_steps']:,} inner steps, {about['num_seeds']} seeds."
  )


def _meanings(flags: dict[str, str]) -> str:
  listed = "; ".join(f"{label}, {text}" for label, text in flags.items())
  return f"What values stand for: {listed}." if listed else ""


def _pictures(found: Comparison) -> Iterable[Picture]:
  first = shown(found.plan.reference)
  if any(each.score is not None for each in found.outcomes):
    yield Picture(
      "compare_scores",
      compare_plots.scores(found.outcomes),
      f"Loss ratio to {first} (above 1 is better) and tasks won against it, "
      "with intervals over meta-seeds and evaluation seeds, not over tasks.",
      f"Loss ratio to {first} and tasks won, by {found.plan.setting}",
    )
  if any(run.validation for each in found.outcomes for run in each.runs):
    yield Picture(
      "compare_validation",
      compare_plots.validation(found.outcomes),
      "Scores on the training suite's validation tasks, a line for each "
      "meta-seed; 0 is the value's own untrained optimizer, lower is better.",
      f"Validation scores over outer steps, by {found.plan.setting}",
    )


def _markdown(
  table: tables.Table,
  pictures: Sequence[Picture],
  problems: Sequence[str],
) -> str:
  parts = [tables.markdown(table)]
  parts += [
    f"![{picture.alternative}]({PICTURES}/{picture.name}.png)\n"
    for picture in pictures
  ]
  if problems:
    parts.append("Missing or damaged:\n")
    parts.append("".join(f"- {problem}\n" for problem in problems))
  return "\n".join(parts)


def _page(
  found: Comparison,
  table: tables.Table,
  drawn: Sequence[html.Html],
  problems: Sequence[str],
) -> str:
  sections = [html.element("h1", f"Comparison of {found.plan.setting}")]
  sections += [
    html.element("p", sentence, class_="headline")
    for sentence in compare_tables.sentences(found.outcomes)
  ]
  sections += problem_list(problems)
  if drawn:
    sections.append(html.element("div", *drawn, class_="pictures"))
  sections += [
    html.element("h2", table.title),
    html.table(table.header, table.rows),
    html.element("p", table.note, class_="note"),
  ]
  return html.page(f"Comparison of {found.plan.setting}", *sections)


def _numbers(each: Outcome) -> dict[str, Any]:
  score = each.score
  return {
    "value": each.value,
    "runs": [
      {
        "name": run.name,
        "outer_steps": run.outer_steps,
        "inner_steps": run.inner_steps,
        "seconds_per_outer_step": run.seconds,
        "meta_parameters": run.meta_parameters,
        "state_floats": run.state_floats,
        "final_validation_score": run.final_score,
      }
      for run in each.runs
    ],
    "loss_ratio": _estimate(score and score.loss_ratio),
    "tasks_won": _estimate(score and score.won),
    "tasks": score.tasks if score else 0,
    "tasks_without_ratio": score.without_ratio if score else 0,
  }


def _estimate(estimate: Any) -> dict[str, float] | None:
  return estimate._asdict() if estimate is not None else None
