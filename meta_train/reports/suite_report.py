"""The report of an evaluation: one page, tables and pictures from its rows.

Idea: nothing is computed here that the rows do not hold, so a page can be
made again at any time, also from a folder that came from elsewhere. Rows that
are missing, damaged or refused are listed at the top of the page.

Names: `write_report`, `headlines`, `make_tables`, `all_markdown`, `TABLES`,
`MARKDOWN`.
"""

import os
import pathlib
from collections.abc import Iterable

from meta_train.evaluation import scores as scores_lib
from meta_train.evaluation.baseline_runs import REFERENCE
from meta_train.reports import (
  plots,
  suite_headlines,
  suite_plots,
  suite_tables,
  sweep_tables,
  task_tables,
)
from meta_train.reports import report_html as html
from meta_train.reports.report_parts import (
  REPORT,
  Picture,
  draw,
  grouped,
  problem_list,
)
from meta_train.reports.suite_files import SuiteFiles, read_folder
from meta_train.reports.tables import Table, csv_text, markdown
from meta_train.rows import write_text
from meta_train.terminal import say

TABLES = "tables"
#: All tables in one file.
MARKDOWN = "tables.md"
# There is a picture for each task.
_CURVES_PIXELS_PER_INCH = 100


def headlines(folder: str | os.PathLike) -> list[str]:
  """Returns one sentence per optimizer under evaluation, for a terminal.

  Args:
    folder: the evaluation's folder.
  """
  files = read_folder(folder)
  return suite_headlines.sentences(files.found, files.sweeps)


def write_report(folder: str | os.PathLike) -> pathlib.Path:
  """Makes tables, pictures and the page from an evaluation's rows.

  Args:
    folder: the evaluation's folder.

  Returns:
    The page, `report.html` in that folder; tables are in `tables/` as CSV
    and, all in one file, as Markdown; pictures are in `pictures/`.
  """
  files = read_folder(folder)
  tables = make_tables(files)
  write_text(files.path / TABLES / MARKDOWN, all_markdown(tables))
  for table in tables:
    write_text(files.path / TABLES / f"{table.name}.csv", csv_text(table))
  drawn, problems = draw(files.path, _pictures(files))
  curves, _ = draw(
    files.path,
    _curves(files),
    pixels_per_inch=_CURVES_PIXELS_PER_INCH,
  )
  target = files.path / REPORT
  problems = grouped([*files.problems, *problems], files.found.tasks)
  if problems:
    say(
      f"the page tells of {len(problems)} things that are missing or damaged, "
      f"the first: {problems[0]}"
      if len(problems) > 1
      else f"the page tells of what is missing or damaged: {problems[0]}"
    )
  write_text(target, _page(files, tables, drawn, curves, problems))
  return target


def all_markdown(tables: Iterable[Table]) -> str:
  """Returns all tables as one text.

  Args:
    tables: the tables.
  """
  return "\n".join(markdown(table) for table in tables)


def make_tables(files: SuiteFiles) -> list[Table]:
  """Returns the tables of an evaluation, those that have rows.

  Args:
    files: what its folder holds.
  """
  found = files.found
  tables = [sweep_tables.sweep_table(sweep) for sweep in files.sweeps]
  if found.tasks:
    tables = [
      suite_tables.overview(found),
      suite_tables.wins(found),
      suite_tables.against_baselines(found),
      suite_tables.against_first(found),
      *tables,
      task_tables.by_task(found),
    ]
  overhead = task_tables.overhead(files.overhead)
  if overhead is not None:
    tables.insert(4 if found.tasks else len(tables), overhead)
  return [table for table in tables if table.rows]


def _pictures(files: SuiteFiles) -> Iterable[Picture]:
  found = files.found
  for name in found.candidates:
    score = scores_lib.score(found, name, REFERENCE)
    if score is not None and score.num_speed_ups:
      yield Picture(
        f"speed_up_{_file_name(name)}",
        suite_plots.speed_ups(found, score),
        "Steps that the lower envelope of Adam's learning rates needs for the "
        "loss that the optimizer ends at, over the steps it took. Losses are "
        "means over seeds. Hatched: Adam never got there; the bar is as long "
        "as was looked.",
        f"Speed-up of {name} over tuned Adam on each task",
      )
  profile = suite_plots.performance_profile(found) if found.tasks else None
  if profile is not None:
    yield Picture(
      "performance_profile",
      profile,
      "Performance profile. The target of a task is the loss that Adam at its "
      "best constant rate ends at, in the mean over seeds. On the left: how "
      "often an optimizer is the fastest; on the right: how often it gets "
      "there within four times the steps of the fastest.",
      "Share of tasks solved within a factor of the fastest",
    )
  for sweep in files.sweeps:
    scores = list(sweep_tables.sweep_scores(sweep).values())
    if not any(score and score.loss_ratio for each in scores for score in each):
      continue  # Without Adam there is nothing to draw.
    yield Picture(
      f"sweep_{sweep.name}",
      suite_plots.sweep_ratios(sweep, scores),
      "Interquartile means over tasks and seeds, with bootstrap intervals; "
      "the line at 1 is Adam, tuned at each setting. At 0 the runs diverged.",
      f"Final-loss ratio by {sweep.name}",
    )
  order = [_file_name(name) for name in found.candidates]
  for name, document in sorted(
    files.kernels.items(),
    key=lambda item: order.index(item[0]) if item[0] in order else len(order),
  ):
    yield Picture(
      f"kernels_{_file_name(name)}",
      plots.kernels(document, name=name),
      f"{name}: what the memory and the controller keep of a gradient by its "
      "age, before and after meta-training.",
      f"Learned weights of {name} over the age of a gradient",
    )


def _curves(files: SuiteFiles) -> Iterable[Picture]:
  for task in files.found.tasks:
    yield Picture(
      f"task_{_file_name(task)}",
      suite_plots.task_curves(files.found, task),
      "",
      f"Learning curves on {task}",
    )


def _file_name(name: str) -> str:
  return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def _page(files, tables, drawn, curves, problems) -> str:
  suite = files.about.get("task_suite", "a suite")
  title = f"Evaluation on {suite}"
  sections = [html.element("h1", title)]
  sections += [
    html.element("p", sentence, class_="headline")
    for sentence in suite_headlines.sentences(files.found, files.sweeps)
  ]
  sections += problem_list(problems)
  if drawn:
    sections.append(html.element("div", *drawn, class_="pictures"))
  folded = {"tasks"}
  for table in tables:
    if table.name not in folded:
      sections += _table(table)
  if curves:
    sections += [
      html.element("h2", "Learning curves"),
      html.element(
        "p",
        "Training loss of a batch: medians over seeds, and the middle half of "
        "them as a band. All optimizers start each seed from the same "
        "parameters and see the same batches.",
        class_="note",
      ),
      html.element("div", *curves, class_="pictures"),
    ]
  for table in tables:
    if table.name in folded:
      sections.append(
        html.element(
          "details", html.element("summary", table.title), *_table(table)
        )
      )
  sections += _about(files)
  return html.page(title, *sections)


def _table(table: Table) -> list[html.Html]:
  parts = [
    html.element("h2", table.title),
    html.table(table.header, table.rows),
  ]
  if table.note:
    parts.append(html.element("p", table.note, class_="note"))
  return parts


def _about(files: SuiteFiles) -> list[html.Html]:
  about = files.about
  environment = about.get("environment", {})
  facts = {
    "Steps": f"{about.get('num_steps', 0):,}",
    "Seeds": str(about.get("num_seeds", "")),
    **{
      f"Baseline {name}": text
      for kind in ("sweep_baselines", "baselines")
      for name, text in about.get(kind, {}).items()
    },
    **{
      name: str(environment.get(name))
      for name in ("started", "platform", "device_kind", "git_revision")
      if name in environment
    },
    **{
      name: str(version)
      for name, version in environment.get("versions", {}).items()
    },
  }
  return [html.element("h2", "How it was measured"), html.facts(facts)]
