"""Pictures of a run's result: learning curves, final losses, kernels.

Idea: each picture is made from what the run folder holds, and its title says
what is to be seen. Colours go with line styles, so that none is needed alone;
`plot_style` holds the looks.

Names: `learning_curves`, `final_losses`, `kernels`, `draw_runs`, `steps_of`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from meta_train.evaluation.summary import Runs, TaskResults, compare_runs
from meta_train.reports.plot_style import (
  Draw,
  figure_and_axes,
  log_if_positive,
  set_title,
)


def _quantile(curves, q):
  # The nearest curve: interpolation between infinities gives NaN.
  return np.quantile(curves, q, axis=0, method="nearest")


def _gap(values):
  """Replaces what can't be drawn by gaps."""
  return np.where(np.isfinite(values), values, np.nan)


def steps_of(runs: Runs) -> Float[np.ndarray, "points"]:
  """Returns the middle of the block of steps that each point averages."""
  return (np.arange(runs.curves.shape[1]) + 0.5) * runs.every - 0.5


def draw_runs(axis, runs: Runs, color: str, linestyle: str) -> None:
  """Draws the median over seeds, and the middle half of them as a band."""
  broken = runs.num_diverged
  label = runs.label + (f" ({broken} diverged)" if broken else "")
  steps = steps_of(runs)
  axis.fill_between(
    steps,
    _gap(_quantile(runs.curves, 0.25)),
    _gap(_quantile(runs.curves, 0.75)),
    color=color,
    alpha=0.25,
    linewidth=0,
  )
  axis.plot(
    steps,
    _gap(_quantile(runs.curves, 0.5)),
    color=color,
    linestyle=linestyle,
    label=label,
    zorder=3 if linestyle == ":" else 2,
  )


def learning_curves(result: TaskResults, baseline: str) -> Draw:
  """Draws training losses over inner steps.

  The learned and the untrained optimizer and the tuned baseline as medians
  with the interquartile range over seeds; the baseline's other rates as faint
  medians.

  Args:
    result: the runs on one task.
    baseline: name of the baseline to draw.

  Returns:
    A function from a theme to the figure.
  """
  grid = result.baselines.get(baseline, {})
  tuned = result.tuned.get(baseline)
  others = [grid[rate] for rate in sorted(grid) if grid[rate] is not tuned]

  def draw(theme):
    figure, axes = figure_and_axes()
    axis = axes[0, 0]
    for i, faint in enumerate(others):
      axis.plot(
        steps_of(faint),
        _gap(_quantile(faint.curves, 0.5)),
        color=theme["others"],
        linewidth=1,
        label=f"{baseline}, {len(others)} other rates" if i == 0 else None,
      )
    drawn = [
      (result.untrained, "untrained", ":"),
      (tuned, "baseline", "--"),
      (result.learned, "learned", "-"),
    ]
    for runs, role, linestyle in drawn:
      if runs is not None:
        draw_runs(axis, runs, theme[role], linestyle)
    log_if_positive(axis, *(runs.curves for runs in result.all_runs()))
    axis.set_title(_subtitle(result), fontsize=10, fontweight="normal")
    axis.set_xlabel("inner step")
    axis.set_ylabel("training loss of a batch")
    axis.set_xlim(0, result.num_steps)
    handles, labels = axis.get_legend_handles_labels()
    # Below the axes: inside there is no corner that all curves leave free.
    figure.legend(
      handles[::-1], labels[::-1], loc="outside lower left", ncols=2
    )
    set_title(figure, _curves_title(result, tuned))
    return figure

  return draw


def _subtitle(result: TaskResults) -> str:
  seeds = {seed for runs in result.all_runs() for seed in runs.seeds}
  return f"{result.task}, {result.num_steps:,} steps, {len(seeds)} seeds"


def _curves_title(result: TaskResults, tuned: Runs | None) -> str:
  if result.learned is None or tuned is None:
    return "Inner training loss"
  return (
    f"{result.learned.optimizer} ends at {np.mean(result.learned.losses):.3g}"
    f", tuned {tuned.optimizer} at {np.mean(tuned.losses):.3g}"
  )


def final_losses(result: TaskResults, baseline: str) -> Draw:
  """Draws the final losses of each seed, joined over optimizers.

  Args:
    result: the runs on one task.
    baseline: name of the baseline to draw.

  Returns:
    A function from a theme to the figure.
  """
  tuned = result.tuned.get(baseline)
  columns = [
    (runs, role)
    for runs, role in (
      (tuned, "baseline"),
      (result.learned, "learned"),
    )
    if runs is not None
  ]
  splits = [
    (split, name)
    for split, name in (("train", "training"), ("valid", "held-out"))
    if all("loss" in runs.final.get(split, {}) for runs, _ in columns)
  ]

  def draw(theme):
    figure, axes = figure_and_axes(num_columns=max(1, len(splits)))
    for axis, (split, name) in zip(axes[0], splits):
      _draw_pairs(axis, columns, split, theme)
      axis.set_ylabel(f"final {name} loss")
    axes[0, 0].set_title(_subtitle(result), fontsize=10, fontweight="normal")
    set_title(figure, _pairs_title(result, tuned))
    return figure

  return draw


def _draw_pairs(axis, columns, split, theme) -> None:
  values = [runs.final[split]["loss"] for runs, _ in columns]
  finite = np.concatenate([v[np.isfinite(v)] for v in values])
  # Runs that diverged are drawn above all others.
  above = 2 * np.max(finite, initial=1.0)
  seeds = sorted(set.intersection(*(set(runs.seeds) for runs, _ in columns)))
  for seed in seeds:
    heights = [
      float(v[runs.seeds.index(seed)]) for v, (runs, _) in zip(values, columns)
    ]
    heights = [h if np.isfinite(h) else above for h in heights]
    axis.plot(
      range(len(columns)),
      heights,
      color=theme["others"],
      linewidth=0.8,
      zorder=1,
    )
  for x, (v, (_, role)) in enumerate(zip(values, columns)):
    good = np.isfinite(v)
    axis.scatter(np.full(good.sum(), x), v[good], s=22, color=theme[role])
    if not good.all():
      axis.scatter([x], [above], s=50, color=theme[role], marker="x")
      axis.annotate(
        f"{(~good).sum()} diverged",
        (x, above),
        textcoords="offset points",
        xytext=(0, 7),
        ha="center",
        fontsize=9,
      )
  log_if_positive(axis, *values)
  axis.set_xlim(-0.5, len(columns) - 0.5)
  axis.set_xticks(
    range(len(columns)),
    [_short_label(runs) for runs, _ in columns],
    fontsize=9.5,
  )
  axis.grid(visible=False, axis="x")


def _short_label(runs: Runs) -> str:
  if runs.learning_rate is None:
    return runs.optimizer
  return f"{runs.optimizer}\nrate {runs.learning_rate:g}"


def _pairs_title(result: TaskResults, tuned: Runs | None) -> str:
  if result.learned is None or tuned is None:
    return "Final losses by seed"
  found = compare_runs(result.learned, tuned)
  if found is None:
    return "Final losses by seed"
  return (
    f"{result.learned.optimizer} ends lower than tuned {tuned.optimizer} "
    f"on {found.wins} of {found.num_pairs} seeds"
  )


def kernels(document: Mapping[str, Any], *, name: str = "") -> Draw:
  """Draws what the memory keeps of a gradient by its age.

  Args:
    document: `lags`, in steps, and `kernels`: name -> {"initial", "learned"}
      -> weight at each lag.
    name: of the weights, where there are pictures of several.

  Returns:
    A function from a theme to the figure.
  """
  lags = np.asarray(document["lags"], float)
  curves = {
    name: {
      when: np.asarray([np.nan if w is None else w for w in weights], float)
      for when, weights in pair.items()
    }
    for name, pair in document["kernels"].items()
  }
  changes = {
    name: _change(pair["initial"], pair["learned"], lags)
    for name, pair in curves.items()
  }
  num_rows = -(-len(curves) // 2)

  def draw(theme):
    from matplotlib.ticker import FuncFormatter

    figure, axes = figure_and_axes(
      num_columns=2, num_rows=num_rows, sharex=True
    )
    for axis in axes.flat[len(curves) :]:
      axis.set_visible(False)
    for axis, (kernel, pair) in zip(axes.flat, curves.items()):
      axis.axhline(0, color=theme["grid"], linewidth=1)
      axis.plot(
        lags,
        pair["initial"],
        color=theme["untrained"],
        linestyle="--",
        linewidth=1.6,
        zorder=3,  # Where nothing changed both are to be seen.
        label="before meta-training",
      )
      axis.plot(lags, pair["learned"], color=theme["learned"], label="learned")
      axis.set_title(
        f"{kernel}\n({_percent(changes[kernel])})",
        fontsize=10,
        fontweight="normal",
      )
      axis.set_xscale("symlog", linthresh=1)
      axis.set_xlim(lags.min(), lags.max())
      axis.set_xticks(*_lag_ticks(lags.max()))
      axis.minorticks_off()
      axis.tick_params(labelsize=9.5)
      axis.yaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    # The lowest visible axes of each column carry the shared labels.
    for axis in axes.flat[max(0, len(curves) - 2) : len(curves)]:
      axis.set_xlabel("age of the gradient, inner steps", fontsize=10)
      axis.tick_params(labelbottom=True)
    figure.supylabel("weight", fontsize=11)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    most = max(changes, key=lambda kernel: changes[kernel])
    if changes[most] < 0.005:
      finding = "Meta-training left the kernels as they were"
    else:
      finding = f'Meta-training changed "{most}" most'
    set_title(figure, f"{name}: {finding}" if name else finding)
    return figure

  return draw


def _lag_ticks(largest: float) -> tuple[list[float], list[str]]:
  powers = [10**k for k in range(int(np.log10(max(1.0, largest))) + 1)]
  ticks = [0, *powers]
  return [float(t) for t in ticks], [f"{t:,}" for t in ticks]


def _change(initial, learned, lags) -> float:
  """Returns the area between two kernels over that under the first."""

  def area_under(weights):
    middles = (np.abs(weights[1:]) + np.abs(weights[:-1])) / 2
    return np.sum(middles * np.diff(lags))

  area, whole = area_under(learned - initial), area_under(initial)
  return float(area / whole) if whole > 0 and area >= 0 else 0.0


def _percent(fraction: float) -> str:
  return f"{100 * fraction:.0f} % changed"
