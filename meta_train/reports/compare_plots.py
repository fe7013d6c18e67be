"""Pictures of a comparison: how values fare, and how they got there.

Idea: a value has one colour and one style in both pictures, and the reference
comes first; each title says what is to be seen.

Names: `scores`, `validation`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from meta_train.comparing.members import shown
from meta_train.comparing.outcomes import Outcome
from meta_train.evaluation.measures.aggregate import Estimate
from meta_train.reports.plot_style import (
  Draw,
  Theme,
  color_of,
  figure_and_axes,
  round_of,
  set_title,
  thousands,
)
from meta_train.reports.training_plots import SCORE, column

_STYLES = ("-", "--", ":", "-.")
# Letters of a value that are shown.
_LONGEST = 28
#: Largest ratio over the smallest, from which their axis is logarithmic.
_WIDE = 5


def _label(value: str) -> str:
  text = shown(value)
  return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _style(theme: Theme, place: int) -> str:
  return _STYLES[round_of(theme, place) % len(_STYLES)]


def scores(outcomes: Sequence[Outcome]) -> Draw:
  """Draws loss ratio and share of tasks won of each value, with intervals.

  Args:
    outcomes: of all values, the reference first.

  Returns:
    A function from a theme to the figure.
  """
  places = np.arange(len(outcomes))[::-1]

  def draw(theme):
    figure, axes = figure_and_axes(
      2, height=1.5 + 0.32 * len(outcomes), sharey=True
    )
    left, right = axes[0]
    drawn: list[Estimate] = []
    for place, y, each in zip(range(len(outcomes)), places, outcomes):
      color = color_of(theme, place)
      # The reference is even with itself.
      ratio, won = (
        (Estimate(1.0, 1.0, 1.0), Estimate(0.5, 0.5, 0.5))
        if place == 0
        else each.score[:2]
        if each.score is not None
        else (None, None)
      )
      drawn += _dot(left, y, ratio, color)
      _dot(right, y, won and Estimate(*(100 * x for x in won)), color)
    smallest = min(estimate.low for estimate in drawn)
    if smallest > 0 and max(e.high for e in drawn) > _WIDE * smallest:
      left.set_xscale("log")
    for axis, even, text in (
      (left, 1.0, "loss ratio, above 1 is better"),
      (right, 50.0, "tasks won, %"),
    ):
      axis.axvline(even, color=theme["text"], linewidth=1, zorder=1)
      axis.set_xlabel(text, fontsize=10)
      axis.grid(visible=False, axis="y")
    right.set_xlim(-3, 103)
    left.set_yticks(places, [_label(each.value) for each in outcomes])
    left.set_ylim(-0.6, len(outcomes) - 0.4)
    set_title(figure, _finding(outcomes))
    return figure

  return draw


def _dot(
  axis: Any, y: float, estimate: Estimate | None, color: str
) -> list[Estimate]:
  """Draws a number with its interval; returns it if that could be done."""
  if estimate is None or not np.isfinite(estimate).all():
    return []
  value, low, high = estimate
  axis.errorbar(
    [value],
    [y],
    xerr=[[value - low], [high - value]],
    color=color,
    marker="o",
    capsize=3,
    zorder=2,
  )
  return [estimate]


def _finding(outcomes: Sequence[Outcome]) -> str:
  """Says how many values are better and worse than the reference."""
  found = [
    each.score.loss_ratio
    for each in outcomes[1:]
    if each.score is not None and each.score.loss_ratio is not None
  ]
  better = sum(estimate.low > 1 for estimate in found)
  worse = sum(estimate.high < 1 for estimate in found)
  rest = len(found) - better - worse
  single = max(len(each.runs) for each in outcomes) == 1
  return (
    f"{better} better than {_label(outcomes[0].value)}, {worse} worse, "
    f"{rest} undecided{' (one meta-seed)' if single else ''}"
  )


def validation(outcomes: Sequence[Outcome]) -> Draw:
  """Draws validation scores over outer steps, a line for each meta-seed.

  Args:
    outcomes: of all values, at least one with scores.

  Returns:
    A function from a theme to the figure.
  """
  scored = [
    each
    for each in outcomes
    if any(run.final_score is not None for run in each.runs)
  ]

  def draw(theme):
    rows = -(-len(scored) // 2)
    figure, axes = figure_and_axes(height=3.2 + 0.25 * rows)
    axis = axes[0, 0]
    for place, each in enumerate(outcomes):
      label: str | None = _label(each.value)
      for run in each.runs:
        steps, values = column(run.validation, SCORE)
        if not len(steps):
          continue
        axis.plot(
          steps,
          values,
          color=color_of(theme, place),
          linestyle=_style(theme, place),
          linewidth=1.5,
          marker=".",
          label=label,
        )
        label = None
    axis.axhline(0, color=theme["text"], linewidth=0.8)
    axis.set_xlabel("outer step")
    axis.xaxis.set_major_formatter(thousands())
    axis.set_ylabel("score, 0 is its own untrained")
    figure.legend(loc="outside lower left", ncols=2, fontsize=9)
    # Where values start differs, so that none is the best by this.
    set_title(figure, "How far meta-training took each from its untrained one")
    return figure

  return draw
