"""Pictures of meta-training: loss, gradient, time constants, validation.

Each is made from rows of `metrics.jsonl` or `validation.jsonl`, over outer
steps; values that are missing or not finite leave gaps.

Main names: `meta_loss`, `gradient`, `time_constants`, `validation`.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from meta_train.reports.plot_style import (
  Draw,
  figure_and_axes,
  log_if_positive,
  set_title,
  thousands,
)
from meta_train.rows import Row

#: Columns of `metrics.jsonl` that `gradient` draws, and their names.
GRADIENT = {
  "grad_norm": "norm",
  "grad_snr": "signal-to-noise ratio",
}
TIME_CONSTANT = "time_constant/"
SCORE = "score"


def smooth(values: Float[np.ndarray, "points"]) -> Float[np.ndarray, "points"]:
  """Averages each point with its neighbours, a tenth of all at most.

  Args:
    values: a noisy curve without gaps.

  Returns:
    The curve of centred means; windows shrink towards the ends.
  """
  index = np.arange(len(values))
  # A window that shrinks evenly does not pull the ends of a trend inwards.
  to_the_end = np.minimum(index, len(values) - 1 - index)
  reach = np.minimum(to_the_end, min(len(values) // 20, 25))
  total = np.concatenate([[0.0], np.cumsum(values)])
  return (total[index + reach + 1] - total[index - reach]) / (2 * reach + 1)


def column(
  rows: Sequence[Row], name: str
) -> tuple[Float[np.ndarray, "points"], Float[np.ndarray, "points"]]:
  """Returns outer steps and values of a column, where it has numbers."""
  kept = [
    (row["outer_step"], row[name])
    for row in rows
    if isinstance(row.get(name), int | float) and np.isfinite(row[name])
  ]
  steps, values = np.asarray(kept, float).reshape(-1, 2).T
  return steps, values


def _draw_noisy(axis, theme, steps, values) -> None:
  axis.plot(
    steps,
    values,
    color=theme["others"],
    linewidth=1,
    label="each logged step",
  )
  axis.plot(steps, smooth(values), color=theme["learned"], label="running mean")


def _label_steps(axis) -> None:
  axis.set_xlabel("outer step")
  axis.xaxis.set_major_formatter(thousands())


def meta_loss(rows: Sequence[Row]) -> Draw:
  """Draws the meta-loss over outer steps, raw and smoothed.

  Args:
    rows: rows with `outer_step` and `meta_loss`.

  Returns:
    A function from a theme to the figure.
  """
  steps, values = column(rows, "meta_loss")
  mean = smooth(values)

  def draw(theme):
    figure, axes = figure_and_axes()
    axis = axes[0, 0]
    _draw_noisy(axis, theme, steps, values)
    _label_steps(axis)
    axis.set_ylabel("meta-loss")
    axis.legend(loc="upper right")
    verb = "fell" if mean[-1] < mean[0] else "did not fall:"
    set_title(
      figure,
      f"Meta-loss {verb} from {mean[0]:.3g} to {mean[-1]:.3g} "
      f"in {steps[-1]:,.0f} outer steps",
    )
    return figure

  return draw


def gradient(rows: Sequence[Row]) -> Draw:
  """Draws norm and signal-to-noise ratio of the meta-gradient.

  Args:
    rows: rows with columns of `GRADIENT`, at least one of them.

  Returns:
    A function from a theme to the figure.
  """
  found = {title: column(rows, name) for name, title in GRADIENT.items()}
  found = {title: data for title, data in found.items() if len(data[0])}

  def draw(theme):
    figure, axes = figure_and_axes(num_columns=len(found))
    for axis, (title, (steps, values)) in zip(axes[0], found.items()):
      _draw_noisy(axis, theme, steps, values)
      _label_steps(axis)
      axis.set_title(title, fontsize=10, fontweight="normal")
      if title == "norm":
        log_if_positive(axis, values)
      else:
        axis.axhline(0, color=theme["text"], linewidth=0.8)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    ratio = found.get("signal-to-noise ratio")
    if ratio is None:
      set_title(figure, "The meta-gradient")
    else:
      set_title(
        figure,
        "Meta-gradient: signal-to-noise ratio of an outer step "
        f"{np.mean(ratio[1]):.2g} on average",
      )
    return figure

  return draw


def time_constants(rows: Sequence[Row]) -> Draw:
  """Draws how long each mode of the memory remembers.

  That is in inner steps, or in units of the coordinate of a pole that has
  another.

  Args:
    rows: rows with columns `time_constant/NAME`.

  Returns:
    A function from a theme to the figure.
  """
  names = [name for name in rows[-1] if name.startswith(TIME_CONSTANT)]
  curves = {
    name.removeprefix(TIME_CONSTANT): column(rows, name) for name in names
  }
  styles = ("-", "--", "-.", ":")
  roles = ("learned", "baseline", "untrained")

  def draw(theme):
    figure, axes = figure_and_axes()
    axis = axes[0, 0]
    for number, (name, (steps, values)) in enumerate(curves.items()):
      axis.plot(
        steps,
        values,
        color=theme[roles[number % len(roles)]],
        linestyle=styles[number // len(roles) % len(styles)],
        label=name,
      )
    log_if_positive(axis, *(values for _, values in curves.values()))
    _label_steps(axis)
    axis.set_ylabel("time constant")
    figure.legend(loc="outside lower left", ncols=2)
    changes = {
      name: abs(np.log(values[-1] / values[0]))
      for name, (_, values) in curves.items()
      if len(values) and min(values[0], values[-1]) > 0
    }
    if not changes or max(changes.values()) < 0.005:
      set_title(figure, "The memory's time constants stayed as they were")
    else:
      most = max(changes, key=lambda name: changes[name])
      first, last = curves[most][1][[0, -1]]
      set_title(
        figure, f'Time constant of "{most}" went from {first:.3g} to {last:.3g}'
      )
    return figure

  return draw


def validation(rows: Sequence[Row]) -> Draw:
  """Draws the score on the validation tasks, and that of each of them.

  Args:
    rows: rows with `outer_step`, `score` and `score/TASK`.

  Returns:
    A function from a theme to the figure.
  """
  steps, scores = column(rows, SCORE)
  names = [name for name in rows[-1] if name.startswith(f"{SCORE}/")]
  tasks = [column(rows, name) for name in names]

  def draw(theme):
    figure, axes = figure_and_axes()
    axis = axes[0, 0]
    for number, (at, values) in enumerate(tasks):
      axis.plot(
        at,
        values,
        color=theme["others"],
        linewidth=1,
        marker=".",
        label=f"each of {len(tasks)} tasks" if number == 0 else None,
      )
    axis.plot(
      steps, scores, color=theme["learned"], marker="o", label="their mean"
    )
    axis.axhline(0, color=theme["text"], linewidth=0.8)
    _label_steps(axis)
    axis.set_ylabel("score, 0 is untrained")
    figure.legend(loc="outside lower left", ncols=2)
    best = int(np.argmin(scores))
    set_title(
      figure,
      f"Validation score: best {scores[best]:.3g}, after "
      f"{steps[best]:,.0f} outer steps",
    )
    return figure

  return draw
