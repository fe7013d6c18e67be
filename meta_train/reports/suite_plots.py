"""Pictures of a suite: speed-ups, profile, curves of each task, sweeps.

Idea: optimizers under evaluation have strong colours, tuned Adam the colour
that it has in the report of a run, and all others are quiet lines that differ
in style; each title says what is to be seen.

Names: `speed_ups`, `performance_profile`, `task_curves`, `sweep_ratios`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from meta_train.evaluation import rankings
from meta_train.evaluation.baseline_runs import REFERENCE
from meta_train.evaluation.scores import Score
from meta_train.evaluation.standings import Standings
from meta_train.evaluation.sweep_standings import Sweep
from meta_train.reports.plot_style import (
  Draw,
  Theme,
  color_of,
  figure_and_axes,
  log_if_positive,
  set_title,
)
from meta_train.reports.plots import draw_runs, steps_of

# Of the other baselines where they are told apart; they have styles as well.
# None is solid, which only the optimizers under evaluation are.
_MUTED = ("#a5714b", "#7d848d", "#8579b5", "#b0708f", "#9b9244", "#c0807a")
_QUIET = (
  (0, (4, 1.5)),
  (0, (1, 1)),
  "-.",
  (0, (5, 1, 1, 1, 1, 1)),
  (0, (2, 2)),
)


def _color(theme: Theme, found: Standings, name: str) -> str:
  if name == REFERENCE:
    return theme["baseline"]
  if name not in found.candidates:
    return theme["others"]
  return color_of(theme, found.candidates.index(name))


def speed_ups(found: Standings, score: Score) -> Draw:
  """Draws the speed-up over tuned Adam on each task, sorted.

  Args:
    found: all results.
    score: of one optimizer against the reference.

  Returns:
    A function from a theme to the figure.
  """
  bars = sorted(
    (
      float(each.speed_up.value),
      bool(each.speed_up.censored),
      each.task,
    )
    for each in score.tasks
    if each.speed_up is not None
  )
  faster = sum(value > 1 for value, _, _ in bars)

  def draw(theme):
    figure, axes = figure_and_axes(height=1.3 + 0.21 * len(bars))
    axis = axes[0, 0]
    places = np.arange(len(bars))
    values = np.asarray([value for value, _, _ in bars])
    color = _color(theme, found, score.name)
    drawn = axis.barh(places, values, height=0.72, color=color)
    for bar, (value, censored, _), y in zip(drawn, bars, places):
      if censored:
        bar.set_hatch("///")
        bar.set_edgecolor(theme["background"])
      axis.annotate(
        f"> {value:.2g}" if censored else f"{value:.2f}",
        (value, y),
        textcoords="offset points",
        xytext=(4, 0),
        va="center",
        fontsize=8.5,
        # So that the line at 1 does not run through it.
        bbox={"facecolor": theme["background"], "edgecolor": "none", "pad": 1},
      )
    axis.axvline(1.0, color=theme["text"], linewidth=1, zorder=2)
    axis.set_yticks(places, [task for _, _, task in bars], fontsize=8.5)
    axis.set_ylim(-0.6, len(bars) - 0.4)
    axis.set_xlim(0, 1.16 * max(1.0, values.max(initial=0.0)))
    axis.grid(visible=False, axis="y")
    axis.set_xlabel("speed-up over tuned Adam", fontsize=10)
    set_title(
      figure,
      f"{score.name} is faster than tuned Adam on {faster} of {len(bars)} "
      "tasks",
    )
    return figure

  return draw


def performance_profile(found: Standings) -> Draw | None:
  """Draws the share of tasks solved within a factor of the fastest.

  Args:
    found: all results.

  Returns:
    A function from a theme to the figure; `None` without tasks.
  """
  factors = np.geomspace(1.0, 4.0, 200)
  shares = rankings.profile_of(found, factors)
  if shares is None:
    return None
  tasks, _ = rankings.times_to_target(found)
  title = f"{_fastest(found, shares[0])} ({len(tasks)} tasks)"

  def draw(theme):
    rows = -(-len(found.optimizers) // 3)
    figure, axes = figure_and_axes(height=3.3 + 0.22 * rows)
    axis = axes[0, 0]
    quiet = 0
    for i, name in enumerate(found.optimizers):
      strong = name in found.candidates or name == REFERENCE
      style: Any = "--" if name == REFERENCE else "-"
      color = None
      if not strong:
        style = _QUIET[quiet % len(_QUIET)]
        color = _MUTED[quiet % len(_MUTED)]
        quiet += 1
      axis.step(
        factors,
        100 * shares[:, i],
        where="post",
        color=color or _color(theme, found, name),
        linestyle=style,
        linewidth=2 if strong else 1.4,
        zorder=3 if strong else 2,
        label=name,
      )
    axis.set_xscale("log")
    axis.set_xticks([1, 1.5, 2, 3, 4], ["1", "1.5", "2", "3", "4"])
    axis.minorticks_off()
    axis.set_xlim(1, 4)
    axis.set_ylim(0, 102)
    axis.set_xlabel("steps to tuned Adam's loss, over those of the fastest")
    axis.set_ylabel("share of tasks, %")
    figure.legend(loc="outside lower left", ncols=3, fontsize=9)
    set_title(figure, title)
    return figure

  return draw


def _fastest(found: Standings, shares: np.ndarray) -> str:
  """Says who is the fastest most often, if it is one, two or three of them."""
  best = [
    name
    for name, share in zip(found.optimizers, shares)
    if share == shares.max()
  ]
  if shares.max() == 0.0:
    return "Nobody reaches tuned Adam's loss"
  if len(best) > 3 or len(best) == len(shares) > 1:
    return f"{len(best)} optimizers are the fastest equally often"
  if len(best) == 1:
    return f"{best[0]} is the fastest most often"
  named = f"{', '.join(best[:-1])} and {best[-1]}"
  return f"{named} are the fastest most often"


def task_curves(found: Standings, task: str) -> Draw:
  """Draws the learning curves of one task.

  Args:
    found: all results.
    task: name of the task.

  Returns:
    A function from a theme to the figure.
  """
  there = found.runs[task]
  drawn = {
    name: runs for name, runs in there.items() if runs.curves.shape[1] > 0
  }
  main = [name for name in found.candidates if name in drawn]
  main += [REFERENCE] if REFERENCE in drawn else []
  others = [name for name in drawn if name not in main]

  def draw(theme):
    rows = -(-(len(main) + min(1, len(others))) // 2)
    figure, axes = figure_and_axes(height=3.1 + 0.25 * rows)
    axis = axes[0, 0]
    for i, name in enumerate(others):
      runs = drawn[name]
      median = np.quantile(runs.curves, 0.5, axis=0, method="nearest")
      axis.plot(
        steps_of(runs),
        np.where(np.isfinite(median), median, np.nan),
        color=theme["others"],
        linewidth=1,
        label=f"{len(others)} other tuned baselines" if i == 0 else None,
      )
    for name in main[::-1]:
      style = "--" if name == REFERENCE else "-"
      draw_runs(axis, drawn[name], _color(theme, found, name), style)
    log_if_positive(axis, *(runs.curves for runs in drawn.values()))
    axis.set_xlabel("inner step", fontsize=10)
    axis.set_ylabel("training loss", fontsize=10)
    axis.set_xlim(0, found.num_steps)
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(
      handles[::-1], labels[::-1], loc="outside lower left", ncols=2, fontsize=9
    )
    set_title(figure, task)
    return figure

  return draw


def sweep_ratios(
  sweep: Sweep, scores: Sequence[Sequence[Score | None]]
) -> Draw:
  """Draws final-loss ratios to tuned Adam over the settings of a sweep.

  Args:
    sweep: the sweep.
    scores: for each candidate those at each setting.

  Returns:
    A function from a theme to the figure.
  """
  values = list(sweep.settings)
  found = next(iter(sweep.settings.values()))
  everything = np.asarray(
    [
      number
      for each in scores
      for score in each
      if score is not None and score.loss_ratio is not None
      for number in score.loss_ratio
    ]
  )
  # What is infinite is drawn here, and says so.
  top = 2.0 * np.max(everything[np.isfinite(everything)], initial=1.0)

  def draw(theme):
    figure, axes = figure_and_axes()
    axis, drawn = axes[0, 0], []
    for each in scores:
      named = [score for score in each if score is not None]
      if not named:
        continue
      points = [
        (i, score.loss_ratio)
        for i, score in enumerate(each)
        if score is not None and score.loss_ratio is not None
      ]
      if not points:
        continue
      places = [i for i, _ in points]
      shown = np.asarray([tuple(estimate) for _, estimate in points])
      infinite = np.isinf(shown[:, 0])
      shown = np.where(np.isinf(shown), top, shown)
      middle, low, high = shown.T
      drawn.append(shown)
      for i in np.flatnonzero(infinite):
        axis.annotate(
          "infinite",
          (places[i], top),
          xytext=(0, 5),
          textcoords="offset points",
          ha="center",
          fontsize=9,
        )
      axis.errorbar(
        places,
        middle,
        yerr=[middle - low, high - middle],
        color=_color(theme, found, named[0].name),
        marker="o",
        capsize=3,
        label=named[0].name,
      )
    axis.axhline(1.0, color=theme["baseline"], linestyle="--", linewidth=1.5)
    if drawn and _spread(np.concatenate([*map(np.ravel, drawn)])) > 5:
      log_if_positive(axis, *drawn)
    axis.margins(y=0.1)
    axis.set_xticks(range(len(values)), values)
    axis.set_xlim(-0.3, len(values) - 0.7)
    axis.set_xlabel(sweep.name.replace("_", " "))
    axis.set_ylabel("tuned Adam's loss / its loss")
    # Inside there is no corner that all error bars leave free.
    figure.legend(loc="outside lower left", ncols=2, fontsize=9)
    set_title(
      figure, f"Sweep of {sweep.name.replace('_', ' ')}: above 1 is better"
    )
    return figure

  return draw


def _spread(values: np.ndarray) -> float:
  """Returns the largest finite value over the smallest; 0 if there is none."""
  good = values[np.isfinite(values) & (values > 0)]
  return float(good.max() / good.min()) if good.size else 0.0
