"""Pictures: drawn in both themes, also of what diverged or is missing."""

import evaluation_rows
import numpy as np
import pytest

from meta_train.evaluation import summary
from meta_train.reports import plot_style, plots, training_plots

pytest.importorskip("matplotlib")


def _result(**changes):
  return summary.summarize(evaluation_rows.rows(**changes))[0][0]


def _kernels(scale=0.5):
  lags = np.arange(101)
  weights = list(0.1 * 0.9**lags)
  return {
    "lags": lags.tolist(),
    "kernels": {
      "direction": {"initial": weights, "learned": weights},
      "beta": {
        "initial": weights,
        "learned": [scale * weight for weight in weights],
      },
      "empty": {"initial": [0.0] * 101, "learned": [None] * 101},
    },
  }


METRICS = [
  {
    "outer_step": i,
    "meta_loss": 2 - 0.01 * i,
    "grad_norm": 1 / (1 + i),
    "grad_snr": 0.3 - 0.01 * i,
    "time_constant/beta 0.9": 9.5 + i,
    "time_constant/g squared": 1e3,
  }
  for i in range(100)
]
SCORES = [
  {"outer_step": 100 * i, "score": -i, "score/a": -2 * i, "score/b": 0.0}
  for i in range(1, 4)
]
LACKING = [{"outer_step": 1, "meta_loss": None}, {"outer_step": 2}]
DRAWN = {
  "curves": lambda: plots.learning_curves(_result(), "adam"),
  "curves diverged": lambda: plots.learning_curves(
    _result(learned=np.inf), "adam"
  ),
  "curves without baseline": lambda: plots.learning_curves(
    _result(adam={}), "adam"
  ),
  "losses": lambda: plots.final_losses(_result(), "adam"),
  "losses diverged": lambda: plots.final_losses(
    _result(learned=np.inf), "adam"
  ),
  "losses without baseline": lambda: plots.final_losses(
    _result(adam={}), "adam"
  ),
  "meta-loss": lambda: training_plots.meta_loss(METRICS),
  "meta-loss of one row": lambda: training_plots.meta_loss(
    METRICS[:1] + LACKING
  ),
  "gradient": lambda: training_plots.gradient(METRICS + LACKING),
  "gradient without ratio": lambda: training_plots.gradient(
    [{"outer_step": 1, "grad_norm": 2.0, "grad_snr": None}]
  ),
  "time constants": lambda: training_plots.time_constants(METRICS),
  "time constants of one row": lambda: training_plots.time_constants(
    METRICS[:1]
  ),
  "validation": lambda: training_plots.validation(SCORES),
  "validation of one row": lambda: training_plots.validation(SCORES[:1]),
  "kernels": lambda: plots.kernels(_kernels()),
}


@pytest.mark.parametrize("name", DRAWN)
def test_pictures_are_written_in_both_themes(name, tmp_path, recwarn):
  files = plot_style.save(DRAWN[name](), tmp_path / "pictures", "picture")
  assert set(files) == {"light", "dark"}
  data = [path.read_bytes() for path in files.values()]
  assert all(d.startswith(b"\x89PNG") and len(d) > 10_000 for d in data)
  assert data[0] != data[1]
  # A warning of the layout is text that overlaps or is cut off.
  assert [str(warning.message) for warning in recwarn] == []


def _texts(draw):
  figure = draw(plot_style.THEMES["light"])
  legend = [text.get_text() for text in figure.legends[0].texts]
  return figure.get_suptitle(), legend


def test_titles_say_the_finding():
  title, legend = _texts(DRAWN["curves"]())
  assert title == "flt ends at 0.115, tuned adam at 0.23"
  assert legend[:2] == ["flt", "adam, rate 0.01"]
  assert "adam, 2 other rates" in legend
  title, legend = _texts(DRAWN["curves diverged"]())
  assert "flt (4 diverged)" in legend
  title, _ = _texts(DRAWN["kernels"]())
  assert title == 'Meta-training changed "beta" most'
  title, _ = _texts(plots.kernels(_kernels(), name="flt"))
  assert title == 'flt: Meta-training changed "beta" most'
  figure = DRAWN["losses"]()(plot_style.THEMES["light"])
  assert (
    figure.get_suptitle() == "flt ends lower than tuned adam on 4 of 4 seeds"
  )
  figure = DRAWN["meta-loss"]()(plot_style.THEMES["light"])
  assert figure.get_suptitle().startswith("Meta-loss fell from 2 to 1.01")
  assert _texts(DRAWN["time constants"]())[0] == (
    'Time constant of "beta 0.9" went from 9.5 to 108'
  )
  title, legend = _texts(DRAWN["validation"]())
  assert title == "Validation score: best -3, after 300 outer steps"
  assert legend == ["each of 2 tasks", "their mean"]


def test_smoothing_keeps_lines_and_takes_noise_away():
  line = np.linspace(3.0, 1.0, 200)
  np.testing.assert_allclose(training_plots.smooth(line), line)
  noise = np.random.default_rng(0).normal(size=200)
  # Means of 21 points, fewer towards the ends.
  assert training_plots.smooth(noise)[20:-20].std() < 0.35


def test_colours_stand_out_from_their_background():
  def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
      c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
      for c in channels
    ]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))

  for theme in plot_style.THEMES.values():
    back = luminance(theme["background"])
    for role in ("text", "learned", "baseline", "untrained"):
      light, dark = sorted([luminance(theme[role]), back], reverse=True)
      # WCAG 2.1 asks 3:1 of graphics.
      assert (light + 0.05) / (dark + 0.05) > 3, role


def _axis_of(values):
  _, axes = plot_style.figure_and_axes()
  axis, steps = axes[0, 0], np.arange(len(values))
  axis.plot(steps, values)
  axis.scatter(steps, values)
  axis.fill_between(steps, values, np.full(len(values), 2.0))
  plot_style.log_if_positive(axis, values)
  return axis


def test_a_loss_of_zero_is_at_a_tick_of_its_own_of_a_logarithmic_axis():
  axis = _axis_of(np.asarray([1.0, 1e-3, 0.0, np.nan]))
  assert axis.get_yscale() == "log"
  axis.figure.draw_without_rendering()
  ticks = dict(
    zip([x.get_text() for x in axis.get_yticklabels()], axis.get_yticks())
  )
  zero = ticks["0"]
  # An eighth of three decades below the lowest value, and no other so low.
  assert zero == pytest.approx(1e-3 * 1e-3 ** (1 / 8))
  assert sorted(ticks.values())[:2] == [zero, pytest.approx(1e-3)]
  lifted = [1.0, 1e-3, zero, np.nan]
  np.testing.assert_array_equal(axis.lines[0].get_ydata(), lifted)
  marks, band = axis.collections
  np.testing.assert_array_equal(marks.get_offsets()[:3, 1], lifted[:3])
  # The marks themselves keep their shape.
  assert marks.get_paths()[0].vertices.min() < 0
  assert min(path.vertices[:, 1].min() for path in band.get_paths()) == zero
  low, high = axis.get_ylim()
  assert 1e-4 < low < zero and 2.0 < high < 20.0


def test_zero_is_well_below_the_lowest_of_close_values():
  zero = _axis_of(np.asarray([3.0, 2.0, 0.0])).lines[0].get_ydata()[-1]
  assert 0.0 < zero <= 1.0


@pytest.mark.parametrize("values", [[1.0, -0.1, 0.0], [0.0, 0.0, 0.0]])
def test_a_negative_loss_or_nothing_but_zeros_are_linear(values):
  assert _axis_of(np.asarray(values)).get_yscale() == "linear"
