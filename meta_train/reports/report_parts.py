"""What the report of a run and that of an evaluation have in common.

Names: `Picture`, `draw`, `problem_list`, `grouped`, `REPORT`, `PICTURES`.
"""

import pathlib
from collections.abc import Iterable
from typing import NamedTuple

from meta_train.reports import plot_style
from meta_train.reports import report_html as html

REPORT = "report.html"
PICTURES = "pictures"
#: Problems that are shown unfolded.
_UNFOLDED = 5


class Picture(NamedTuple):
  """A picture to draw, and the words around it.

  Attributes:
    name: of its file.
    draw: maps a theme to the figure.
    caption: text below it.
    alternative: what it shows, for readers who can't see it.
  """

  name: str
  draw: plot_style.Draw
  caption: str
  alternative: str


def draw(
  folder: pathlib.Path,
  pictures: Iterable[Picture],
  *,
  pixels_per_inch: int = plot_style.PIXELS_PER_INCH,
) -> tuple[list[html.Html], list[str]]:
  """Draws pictures into `pictures/` of a folder.

  Args:
    folder: of the report.
    pictures: what to draw.
    pixels_per_inch: see `plot_style.save`.

  Returns:
    The figures for a page, and a sentence for each thing that is missing.
  """
  figures = []
  try:
    for item in pictures:
      files = plot_style.save(
        item.draw,
        folder / PICTURES,
        item.name,
        pixels_per_inch=pixels_per_inch,
      )
      figures.append(
        html.picture(files, caption=item.caption, alternative=item.alternative)
      )
  except ModuleNotFoundError as error:
    return figures, [
      f"Pictures were not drawn, because {error.name} is not installed: "
      "install the extra `plots`."
    ]
  return figures, []


def problem_list(problems: Iterable[str]) -> list[html.Html]:
  """Returns the box of things that are missing or damaged; empty if none.

  Args:
    problems: sentences.
  """
  items = [html.element("li", problem) for problem in problems]
  if not items:
    return []
  title, listed = "Missing or damaged", html.element("ul", *items)
  if len(items) > _UNFOLDED:
    summary = html.element("summary", f"{title}: {len(items)} things")
    parts = [html.element("details", summary, listed)]
  else:
    parts = [html.element("strong", title), listed]
  return [html.element("div", *parts, class_="problems")]


def grouped(problems: Iterable[str], tasks: Iterable[str]) -> list[str]:
  """Makes sentences that differ in the task they begin with one.

  Args:
    problems: sentences; those on a task begin with `TASK: `.
    tasks: names of the tasks.

  Returns:
    Each sentence once, in the order of their first.
  """
  known = set(tasks)
  found: dict[str, dict[str, None]] = {}
  for problem in problems:
    task, colon, rest = problem.partition(": ")
    on_task = bool(colon) and task in known
    where = found.setdefault(rest if on_task else problem, {})
    if on_task:
      where[task] = None
  return [
    f"{', '.join(where)}: {sentence}" if where else sentence
    for sentence, where in found.items()
  ]
