"""How pictures look: themes, sizes, axes, and writing them to files.

Idea: a picture is a function from a theme to a matplotlib figure; `save`
draws it in a light and a dark theme, in colours that the colour-blind tell
apart (M. Okabe and K. Ito, "Color Universal Design", 2008).

Names: `THEMES`, `Theme`, `Draw`, `save`, `color_of`, `round_of`,
`figure_and_axes`, `set_title`, `log_if_positive`, `thousands`.
"""

import pathlib
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

TITLE_LETTERS = 54
# Text colour, background, grid, then learned, baseline, untrained, others, and
# those of optimizers beyond the first.
THEMES: Mapping[str, Mapping[str, str]] = {
  "light": {
    "text": "#1f2328",
    "background": "#ffffff",
    "grid": "#d8dce1",
    "learned": "#0072b2",
    "baseline": "#d55e00",
    "untrained": "#7a5195",
    "others": "#b3b9c1",
    "more": "#009e73 #cc79a7 #7a5195 #8c6d1f #56b4e9 #a32a2a",
  },
  "dark": {
    "text": "#e6e8eb",
    "background": "#16191d",
    "grid": "#343a41",
    "learned": "#56b4e9",
    "baseline": "#f0a030",
    "untrained": "#c9a0dc",
    "others": "#666e78",
    "more": "#2bc59a #e39cc4 #c9a0dc #cfae52 #1f8fd0 #e06666",
  },
}
WIDTH, HEIGHT = 5.6, 3.8  # Inches; 1 inch is 96 pixels of a page.
PIXELS_PER_INCH = 192  # Twice the page's, for sharp screens.
Theme = Mapping[str, str]
Draw = Callable[[Theme], Any]


def color_of(theme: Theme, place: int) -> str:
  """Returns the colour of one of several optimizers that are compared.

  Args:
    theme: the theme.
    place: its place among them, 0 the first; colours come again.
  """
  colors = _colors(theme)
  return colors[place % len(colors)]


def round_of(theme: Theme, place: int) -> int:
  """Returns how often all colours were used before a place."""
  return place // len(_colors(theme))


def _colors(theme: Theme) -> list[str]:
  return [theme["learned"], *theme["more"].split()]


def _style(theme: Theme) -> Any:
  text = theme["text"]
  return {
    "figure.facecolor": theme["background"],
    "axes.facecolor": theme["background"],
    "savefig.facecolor": theme["background"],
    "axes.edgecolor": theme["grid"],
    "axes.labelcolor": text,
    "axes.titlecolor": text,
    "text.color": text,
    "xtick.color": text,
    "ytick.color": text,
    "grid.color": theme["grid"],
    "grid.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "font.size": 11,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 2,
  }


def save(
  draw: Draw,
  folder: pathlib.Path,
  name: str,
  *,
  pixels_per_inch: int = PIXELS_PER_INCH,
) -> dict[str, pathlib.Path]:
  """Draws a picture in every theme and writes it as PNG.

  Args:
    draw: maps a theme to a matplotlib figure.
    folder: where to write; made if need be.
    name: name of the file without its ending.
    pixels_per_inch: fewer where there are many pictures.

  Returns:
    Theme name -> file.
  """
  import matplotlib

  folder.mkdir(parents=True, exist_ok=True)
  files = {}
  for theme_name, theme in THEMES.items():
    suffix = "" if theme_name == "light" else f".{theme_name}"
    files[theme_name] = folder / f"{name}{suffix}.png"
    with matplotlib.rc_context(_style(theme)):
      draw(theme).savefig(files[theme_name], dpi=pixels_per_inch)
  return files


def figure_and_axes(
  num_columns: int = 1, num_rows: int = 1, *, height: float = 0.0, **options
):
  """Returns a figure without a window, and its axes by row and column.

  Args:
    num_columns: of axes.
    num_rows: of axes.
    height: inches; 0: by the number of rows.
    **options: for the axes.
  """
  from matplotlib.figure import Figure

  height = height or (HEIGHT if num_rows == 1 else 0.6 + 2.0 * num_rows)
  figure = Figure(figsize=(WIDTH, height), layout="constrained")
  return figure, figure.subplots(
    num_rows, num_columns, squeeze=False, **options
  )


def set_title(figure, text: str) -> None:
  """Writes the finding above a figure, in lines of some fifty letters."""
  lines = textwrap.fill(text, TITLE_LETTERS, break_long_words=False)
  figure.suptitle(lines, x=0.01, ha="left", fontsize=11.5, fontweight="bold")


def log_if_positive(axis, *values) -> None:
  """Makes a y axis logarithmic unless a value is negative.

  What is drawn at 0 is then at a tick of its own, "0", below all others.

  Args:
    axis: with all that is to be drawn.
    *values: what it was drawn from.
  """
  from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    NullFormatter,
    NullLocator,
  )

  finite = np.concatenate([np.ravel(v[np.isfinite(v)]) for v in values])
  positive = finite[finite > 0]
  if not positive.size or finite.min() < 0:
    return
  zero = None
  if positive.size < finite.size:
    zero = _below(positive)
    _lift(axis, zero, positive.min())
  axis.set_yscale("log")
  low, high = axis.get_ylim()
  locator = LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,))
  axis.yaxis.set_major_locator(locator)
  if zero is not None:
    # None where there is no scale any more, between 0 and the lowest value.
    ticks = locator.tick_values(low, high)
    ticks = ticks[(ticks >= (zero * positive.min()) ** 0.5) & (ticks <= high)]
    axis.yaxis.set_major_locator(FixedLocator([zero, *ticks]))
    axis.yaxis.set_minor_locator(NullLocator())
  axis.yaxis.set_major_formatter(
    FuncFormatter(lambda x, _: "0" if x == zero else f"{x:g}")
  )
  axis.yaxis.set_minor_formatter(NullFormatter())


def _below(positive: Float[np.ndarray, "values"]) -> float:
  """Returns where 0 is: an eighth of the range, or a half, below the rest."""
  span = positive.max() / positive.min()
  return float(positive.min() / max(2.0, span ** (1 / 8)))


def _lift(axis, zero: float, least: float) -> None:
  """Puts what is drawn at 0 there, and the rest at a value or above."""
  from matplotlib.collections import PathCollection

  def lifted(heights):
    heights = np.asarray(heights, float)
    return np.where(heights <= 0, zero, np.maximum(heights, least))

  def moved(points):
    places, heights = np.asarray(points, float).T
    return np.stack([places, lifted(heights)], -1)

  for line in axis.lines:
    line.set_ydata(lifted(line.get_ydata()))
  for drawn in axis.collections:
    if isinstance(drawn, PathCollection):  # Marks, which have places.
      drawn.set_offsets(moved(drawn.get_offsets()))
      continue
    for path in drawn.get_paths():
      path.vertices = moved(path.vertices)
  axis.dataLim.intervaly = [zero, max(axis.dataLim.y1, least)]
  axis.autoscale_view()


def thousands():
  """Returns a formatter of large whole numbers."""
  from matplotlib.ticker import StrMethodFormatter

  return StrMethodFormatter("{x:,.0f}")
