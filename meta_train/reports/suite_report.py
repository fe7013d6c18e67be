"""The report of an evaluation: one page, tables and pictures from its rows.

Idea: nothing is computed here that the rows do not hold, so a page can be
made again at any time, also from a folder that came from elsewhere. Tasks
without rows of baselines get the shipped ones, if they fit. Rows that are
missing, damaged or refused are listed at the top of the page.

Names: `write_report`, `headlines`, `read_folder`, `make_tables`,
`all_markdown`, `TABLES`, `MARKDOWN`.
"""

import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from meta_train.evaluation import (
  baseline_results,
  evaluate,
  row_standings,
  sweep_standings,
)
from meta_train.evaluation import overhead as costs
from meta_train.evaluation import scores as scores_lib
from meta_train.evaluation.baseline_runs import REFERENCE
from meta_train.evaluation.evaluation_folder import ABOUT, OVERHEAD
from meta_train.evaluation.row_checks import whole_rows
from meta_train.evaluation.standings import Standings
from meta_train.evaluation.sweep_standings import Sweep
from meta_train.reports import (
  plots,
  suite_headlines,
  suite_plots,
  suite_tables,
  sweep_tables,
)
from meta_train.reports import report_html as html
from meta_train.reports.report_parts import (
  REPORT,
  Picture,
  draw,
  grouped,
  problem_list,
)
from meta_train.reports.tables import Table, csv_text, markdown
from meta_train.rows import Row, read_json, read_rows, write_text

TABLES = "tables"
#: All tables in one file.
MARKDOWN = "tables.md"
# There is a picture for each task.
_CURVES_PIXELS_PER_INCH = 100


class SuiteFiles(NamedTuple):
  """What an evaluation's folder holds.

  Attributes:
    path: the folder.
    about: what was evaluated.
    found: the results of the plain evaluation.
    sweeps: the results of sweeps.
    overhead: times per step.
    kernels: optimizer -> learned weights over timesteps.
    problems: a sentence for each thing that is missing.
  """

  path: pathlib.Path
  about: Mapping[str, Any]
  found: Standings
  sweeps: list[Sweep]
  overhead: list[Row]
  kernels: Mapping[str, Mapping[str, Any]]
  problems: list[str]


def read_folder(folder: str | os.PathLike) -> SuiteFiles:
  """Reads an evaluation's folder.

  Args:
    folder: the folder.

  Returns:
    Its content, with a sentence for each thing that is missing.
  """
  path = pathlib.Path(folder)
  about, problems = read_json(path / ABOUT)
  about = about or {}
  rows = read_rows(path / evaluate.FILE_NAME, required=row_standings.REQUIRED)
  whole, damaged = whole_rows(rows.rows)
  whole, of_others = row_standings.of_newest_weights(whole)
  plain, outdated = row_standings.of_newest_definition(
    row for row in whole if row["setting"] is None
  )
  # An evaluation that wanted no baselines says that they are {}.
  shipped, refused = baseline_results.beside(plain, about.get("baselines"))
  plain += shipped
  num_seeds = about.get("num_seeds")
  sweeps, sweep_gaps = sweep_standings.sweeps_in(whole, num_seeds=num_seeds)
  found, gaps = row_standings.standings(plain, num_seeds=num_seeds)
  if sweeps and not plain:
    gaps = []  # A folder of sweeps alone is whole.
  gaps = [*of_others, *outdated, *refused, *gaps, *sweep_gaps]
  for sweep in sweeps:
    gaps += sweep_tables.left_out(sweep)
  overhead = read_rows(path / OVERHEAD, required=costs.REQUIRED)
  kernels = {}
  for file in sorted(path.glob("kernels-*.json")):
    document, _ = read_json(file, required=("lags", "kernels"))
    if document is None:
      problems = [*problems, f"{file.name} is damaged and was left out."]
    else:
      kernels[file.stem.removeprefix("kernels-")] = document
  if not (path / OVERHEAD).exists():  # What was asked for is told below.
    overhead = overhead._replace(problems=[])
  lacking = [
    *_lacking(about, found, sweeps),
    *_lacking_beside(about, overhead.rows, kernels),
  ]
  return SuiteFiles(
    path=path,
    about=about,
    found=found,
    sweeps=sweeps,
    overhead=overhead.rows,
    kernels=kernels,
    problems=[
      *problems,
      *rows.problems,
      *damaged,
      *lacking,
      *gaps,
      *overhead.problems,
      *about.get("problems", ()),
    ],
  )


def _lacking(
  about: Mapping[str, Any], found: Standings, sweeps: Iterable[Sweep]
) -> list[str]:
  """Says what was to be evaluated and has no rows at all."""
  settings = {
    (sweep.name, value): there
    for sweep in sweeps
    for value, there in sweep.settings.items()
  }
  everything = [found, *settings.values()]
  optimizers = {name for each in everything for name in each.optimizers}
  swept = {task for each in settings.values() for task in each.tasks}
  baselines = [
    n for n in about.get("baselines", ()) if n not in found.baselines
  ]
  missing = [
    *(task for task in about.get("tasks", ()) if task not in found.tasks),
    *(each for each in about.get("optimizers", ()) if each not in optimizers),
    *(
      f"sweep of {name}, {value},"
      for name, values in about.get("sweeps", {}).items()
      for value in values
      if (name, value) not in settings
    ),
    *(
      f"{task} in sweeps"
      for task in about.get("sweep_tasks", ())
      if task not in swept
    ),
  ]
  sentences = [
    f"{each} was to be evaluated and has no rows." for each in missing
  ]
  if baselines:
    sentences.append(
      f"no rows are there of the baselines {', '.join(baselines)}."
    )
  return sentences


def _lacking_beside(
  about: Mapping[str, Any],
  overhead: Iterable[Row],
  kernels: Mapping[str, Mapping[str, Any]],
) -> list[str]:
  """Says which costs and kernels were to be there and are not."""
  measured = {(row["task"], row["optimizer"]) for row in overhead}
  sentences = []
  for task, names in about.get("overhead", {}).items():
    missing = [name for name in names if (task, name) not in measured]
    if missing:
      sentences.append(
        f"{task}: what a step costs was not measured with "
        f"{', '.join(missing)}; evaluate again."
      )
  return sentences + [
    f"the learned kernels of {name} are missing; evaluate it again."
    for name in about.get("kernels", ())
    if name not in kernels
  ]


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
      suite_tables.by_task(found),
    ]
  overhead = suite_tables.overhead(files.overhead)
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
