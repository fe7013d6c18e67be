"""The report of a run: one page, made from the files in its folder.

Idea: nothing is computed here that the rows do not hold, so a page can be
made again at any time, also from a folder that came from elsewhere. Files or
rows that are missing or damaged are listed on the page.

`python -m meta_train.report FOLDER` makes the page of a run, or of an
evaluation (see `meta_train.reports.suite_report`), anew.

Names: `write_report`, `headlines`, `REPORT`, `PICTURES`.
"""

import os
import pathlib
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from meta_train.engine import meter
from meta_train.evaluation.comparison import Comparison
from meta_train.evaluation.summary import (
  Runs,
  TaskResults,
  compare_runs,
  headline,
)
from meta_train.reports import plots, training_plots
from meta_train.reports import report_html as html
from meta_train.reports.report_files import (
  KERNELS,
  RunFiles,
  next_command,
  read_run,
  reproduce_command,
)
from meta_train.reports.report_parts import (
  PICTURES,
  REPORT,
  Picture,
  draw,
  problem_list,
)
from meta_train.rows import Row, write_text

__all__ = ["PICTURES", "REPORT", "headlines", "write_report"]


def headlines(run_dir: str | os.PathLike) -> list[str]:
  """Returns one sentence per evaluated task, for a terminal.

  Args:
    run_dir: the run's folder.

  Returns:
    How the learned optimizer fared against each tuned baseline.
  """
  return _headlines(read_run(run_dir))


def _headlines(run: RunFiles) -> list[str]:
  return [
    _joined(
      run.older.get(result.task),
      headline(result, baseline, where=_where(run)),
    )
    for result in run.results
    for baseline in result.tuned
  ]


def _where(run: RunFiles) -> str:
  """Says what a run is evaluated on: of a user's own task, other seeds."""
  if run.config.get("task"):
    return "other seeds of the task"
  return "the held-out task"


def _joined(*sentences: str | None) -> str:
  return " ".join(filter(None, sentences))


def write_report(run_dir: str | os.PathLike) -> pathlib.Path:
  """Makes the pictures and the page of a run from the files in its folder.

  Args:
    run_dir: the run's folder.

  Returns:
    The page, `report.html` in that folder. The pictures are in `pictures/`
    beside it and in the page itself.
  """
  run = read_run(run_dir)
  pictures, problems = draw(run.path, _pictures(run))
  run = run._replace(problems=[*run.problems, *problems])
  target = run.path / REPORT
  write_text(target, _page(run, pictures))
  return target


def _pictures(run: RunFiles) -> Iterable[Picture]:
  """Yields the pictures that the run has data for."""
  for number, result in enumerate(run.results):
    suffix = f"_{number}" if len(run.results) > 1 else ""
    older = run.older.get(result.task)
    for baseline in result.tuned:
      end = suffix if baseline == "adam" else f"{suffix}_{baseline}"
      yield Picture(
        f"learning_curves{end}",
        plots.learning_curves(result, baseline),
        _joined(
          f"Training loss on {result.task}. Lines are medians over seeds, "
          "bands the middle half of them. All optimizers start each seed from "
          "the same parameters and see the same batches.",
          older,
        ),
        f"Training loss over inner steps on {result.task}",
      )
      yield Picture(
        f"final_losses{end}",
        plots.final_losses(result, baseline),
        _joined(
          "Loss of the final parameters, averaged over many batches; each line "
          "is one seed.",
          older,
        ),
        f"Final losses of each seed on {result.task}",
      )
  yield from _training_pictures(run)
  if run.kernels:
    yield Picture(
      "kernels",
      plots.kernels(run.kernels),
      _joined(
        "What the per-parameter memory keeps of a gradient by its age, and by "
        "what factor position makes the controller attend to a token of that "
        "age. In brackets: the area between the two curves over the area under "
        "the first.",
        run.older.get(KERNELS),
      ),
      "Learned kernels over the age of a gradient or token",
    )


def _training_pictures(run: RunFiles) -> Iterable[Picture]:
  """Yields the pictures of how meta-training went."""

  def has(rows: list[Row], *names: str) -> bool:
    return any(len(training_plots.column(rows, name)[0]) for name in names)

  if has(run.metrics, "meta_loss"):
    yield Picture(
      "meta_loss",
      training_plots.meta_loss(run.metrics),
      "What meta-training minimises: the inner training loss, normalised and "
      "averaged over the tasks and steps of each unroll.",
      "Meta-loss over outer steps",
    )
  if has(run.validation, training_plots.SCORE):
    yield Picture(
      "validation",
      training_plots.validation(run.validation),
      "How the running average of theta does on "
      + (
        "other seeds of the task"
        if run.config.get("task")
        else "tasks that meta-training does not see"
      )
      + ": the log of the loss at the end, less that of the untrained "
      "optimizer.",
      "Validation scores over outer steps",
    )
  if has(run.metrics, *training_plots.GRADIENT):
    yield Picture(
      "gradient",
      training_plots.gradient(run.metrics),
      "The norm of the meta-gradient before it is clipped as a whole, and how "
      "much of it is signal, from the spread of the tasks in an outer step: 0 "
      "is pure noise.",
      "Norm and signal-to-noise ratio of the meta-gradient over outer steps",
    )
  if run.metrics and any(
    name.startswith(training_plots.TIME_CONSTANT) for name in run.metrics[-1]
  ):
    yield Picture(
      "time_constants",
      training_plots.time_constants(run.metrics),
      "How long each mode of the memory remembers a gradient: inner steps, or "
      "units of a pole's own coordinate.",
      "Time constants of the memory over outer steps",
    )


def _page(run: RunFiles, pictures: list[html.Html]) -> str:
  name = run.config.get("task") or run.config.get("task_suite") or "a run"
  title = f"Meta-training of {name}, seed {run.config.get('seed', '?')}"
  sections = [html.element("h1", title)]
  sections += [
    html.element("p", sentence, class_="headline")
    for sentence in _headlines(run)
  ]
  sections += problem_list(run.problems)
  sections.append(html.element("div", *pictures, class_="pictures"))
  for result in run.results:
    sections += _task_section(result, run.older.get(result.task))
  sections += _training_section(run.metrics)
  sections += _again_section(run)
  sections += _details("Settings", run.config)
  sections += _details("Environment", run.environment)
  return html.page(title, *sections)


def _number(value: float | None) -> str:
  if value is None:
    return "not measured"
  return "diverged" if value == float("inf") else f"{value:.3g}"


def _interval(found: Comparison | None) -> str:
  if found is None or np.isnan(found.mean_ratio):
    return "none"
  if np.isnan(found.mean_ratio_low):
    return f"{found.mean_ratio:.3g}"
  return (
    f"{found.mean_ratio:.3g} ({found.mean_ratio_low:.3g} to "
    f"{found.mean_ratio_high:.3g})"
  )


def _task_section(
  result: TaskResults, older: str | None = None
) -> list[html.Html]:
  references = list(result.tuned.values())
  header = ["Optimizer", "Final training loss"]
  for reference in references:
    header += [f"Ratio to tuned {reference.optimizer}", "Lower on"]
  header += ["Held-out loss", "Held-out accuracy", "Runs", "Diverged"]
  shown = [
    runs
    for runs in (result.learned, *references, result.untrained)
    if runs is not None
  ]
  # A column that no task fills would only be in the way.
  has_accuracy = any(runs.mean("valid", "accuracy") for runs in shown)
  if not has_accuracy:
    header.remove("Held-out accuracy")

  def cells(runs: Runs) -> list[str]:
    accuracy = runs.mean("valid", "accuracy")
    row = [runs.label, _number(runs.mean("train", "loss"))]
    for reference in references:
      found = compare_runs(runs, reference)
      wins = f"{found.wins} of {found.num_pairs} seeds" if found else "none"
      same = runs is reference
      row += ["1", "itself"] if same else [_interval(found), wins]
    row.append(_number(runs.mean("valid", "loss")))
    if has_accuracy:
      row.append("none" if accuracy is None else f"{100 * accuracy:.1f} %")
    row += [str(len(runs.seeds)), str(runs.num_diverged)]
    return row

  grid = [
    grid[rate] for grid in result.baselines.values() for rate in sorted(grid)
  ]
  notes = [older] if older else []
  notes += [
    "Means over seeds. The ratio is that of mean final training losses, with "
    "the 95 % interval of a paired bootstrap; below 1 is better. A baseline's "
    "rate is the best of its grid on these same runs, which favours the "
    "baseline."
  ]
  notes += [
    f"The best rate of {baseline} is at the edge of its grid: a wider grid "
    "may do better."
    for baseline in result.tuned
    if result.at_edge(baseline)
  ]
  return [
    html.element("h2", f"{result.task}, {result.num_steps:,} steps"),
    html.table(header, map(cells, shown), strong=frozenset({0})),
    *(html.element("p", note, class_="note") for note in notes),
    html.element(
      "details",
      html.element("summary", "All learning rates"),
      html.table(header, map(cells, grid)),
    ),
  ]


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float)


def _training_section(metrics: list[Row]) -> list[html.Html]:
  if not metrics:
    return []
  last = metrics[-1]
  numbers = {
    name: [row[name] for row in metrics if _is_number(row.get(name))]
    for name in ("wall_s", "inner_steps_per_s")
  }
  skipped, limited = meter.shares_left_out(metrics)
  # Rows state the time since the row before; the first includes compilation.
  found = {
    "Outer steps": (last.get("outer_step"), "{:,.0f}"),
    "Inner steps": (last.get("inner_steps"), "{:,.0f}"),
    "Wall-clock time": (sum(numbers["wall_s"]) or None, "{:,.1f} s"),
    "Inner steps per second, median": (
      statistics.median(numbers["inner_steps_per_s"] or [0]) or None,
      "{:,.0f}",
    ),
    "Meta-loss, last row": (last.get("meta_loss"), "{:.4g}"),
    "Diverged tasks, last row": (last.get("diverged_fraction"), "{:.1%}"),
    "Skipped outer steps": (skipped if "skipped" in last else None, "{:,.0f}"),
    "Estimates limited or dropped": (
      limited if "grad_limited" in last else None,
      "{:.2%}",
    ),
  }
  values = {
    title: form.format(value)
    for title, (value, form) in found.items()
    if _is_number(value)
  }
  return [
    html.element("h2", "Meta-training"),
    html.facts(values),
    *_family_table(metrics),
  ]


def _family_table(metrics: list[Row]) -> list[html.Html]:
  """Returns a table of the first and the last tenth of each family's rows."""
  prefix = "meta_loss/"
  names = [
    name.removeprefix(prefix) for name in metrics[-1] if name.startswith(prefix)
  ]
  if len(names) < 2:
    return []

  def mean(name: str, part: slice) -> str:
    values = training_plots.column(metrics[part], name)[1]
    return f"{values.mean():.4g}" if len(values) else "not visited"

  tenth = -(-len(metrics) // 10)
  first, last = slice(tenth), slice(-tenth, None)
  rows = [
    [
      name,
      mean(prefix + name, first),
      mean(prefix + name, last),
      mean(f"diverged/{name}", last),
    ]
    for name in names
  ]
  header = ["Family", "Meta-loss at first", "At the end", "Diverged"]
  return [
    html.element(
      "details",
      html.element("summary", "Family by family"),
      html.table(header, rows, strong=frozenset({0})),
      html.element(
        "p",
        "Means over the first and the last tenth of the rows.",
        class_="note",
      ),
    )
  ]


def _again_section(run: RunFiles) -> list[html.Html]:
  return [
    html.element("h2", "Again, and further"),
    html.element("p", "The same run, where this folder does not exist yet:"),
    html.element("pre", reproduce_command(run)),
    html.element("p", "The same run continued to twice its length:"),
    html.element("pre", next_command(run)),
    html.element("p", "Train a model of your own with the result:"),
    html.element(
      "pre",
      "import flt_lopt\n\n"
      "tx = flt_lopt.flt(\n"
      f"  weights={str(run.path / 'theta.safetensors')!r},\n"
      "  num_steps=200,\n)",
    ),
  ]


def _details(title: str, values: Mapping[str, Any]) -> list[html.Html]:
  if not values:
    return []
  texts = dict(_flat(values))
  return [html.element("h2", title), html.facts(texts)]


def _flat(values: Mapping[str, Any], prefix: str = ""):
  """Yields names and values of nested settings as text."""
  for name, value in values.items():
    if isinstance(value, Mapping):
      yield from _flat(value, f"{prefix}{name}: ")
    elif isinstance(value, list):
      yield f"{prefix}{name}", " ".join(map(str, value)) or "none"
    else:
      text = "none" if value is None or value == "" else str(value)
      yield f"{prefix}{name}", text
