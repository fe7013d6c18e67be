"""An evaluation in a sentence for each optimizer.

Names: `sentences`.
"""

from collections.abc import Sequence

from meta_train.evaluation import scores as scores_lib
from meta_train.evaluation.baseline_runs import REFERENCE
from meta_train.evaluation.best_adam import BEST_ADAM, with_best_adam
from meta_train.evaluation.measures.aggregate import Estimate
from meta_train.evaluation.scores import Score
from meta_train.evaluation.standings import Standings
from meta_train.evaluation.sweep_standings import Sweep
from meta_train.reports import suite_tables, sweep_tables, table_cells

_BOTH = " over tasks and seeds"


def sentences(found: Standings, sweeps: Sequence[Sweep]) -> list[str]:
  """Returns a sentence for each optimizer under evaluation and each sweep.

  Where there are several optimizers, one more for each but the first says how
  it compares with that.

  Args:
    found: the results.
    sweeps: those of sweeps.
  """
  with_best = with_best_adam(found)
  lines = []
  for name in found.candidates:
    score = scores_lib.score(found, name, REFERENCE)
    if score is None:
      lines.append(f"{name}: {_why_no_score(found, name)}.")
      continue
    best = scores_lib.score(with_best, name, BEST_ADAM)
    lines.append(_headline(score, best, found.num_steps))
  lines += map(_against, suite_tables.against_first_scores(found))
  for sweep in sweeps:
    for name, each in sweep_tables.sweep_scores(sweep).items():
      nothing = "none"
      if not any(each):
        nothing = "no task can be scored at all settings"
      values = [
        f"{value}: {table_cells.ratio(score.loss_ratio.value)}"
        for value, score in zip(sweep.settings, each)
        if score is not None and score.loss_ratio is not None
      ]
      lines.append(
        f"{name}, loss ratio to tuned {REFERENCE} by "
        f"{sweep.name.replace('_', ' ')}: {', '.join(values) or nothing}."
      )
  return lines


def _why_no_score(found: Standings, name: str) -> str:
  """Says why an optimizer can't be compared with the reference."""
  if REFERENCE not in found.optimizers:
    return f"there is no {REFERENCE} to compare with"
  if any({name, REFERENCE} <= set(found.runs[task]) for task in found.tasks):
    return f"it shares no seed with {REFERENCE} on any task"
  return f"it shares no task with {REFERENCE}"


def _headline(score: Score, best: Score | None, num_steps: int) -> str:
  """Says how an optimizer did beside tuned Adam, and the best of all Adams."""
  share = _share(
    score.won_over_tasks, table_cells.count_of_tasks(len(score.tasks)), _BOTH
  )
  text = f"{score.name} wins {share} against tuned {REFERENCE}"
  if best is not None:
    share = _share(best.won_over_tasks, str(len(best.tasks)))
    text += f", {share} against the best of all Adams"
  if score.won_held_out_over_tasks is not None:
    share = _share(score.won_held_out_over_tasks, str(score.num_held_out))
    text += f", and by held-out loss {share} against {REFERENCE}"
  if best is not None and best.won_held_out_over_tasks is not None:
    share = _share(best.won_held_out_over_tasks, str(best.num_held_out))
    text += f", {share} against the best"
  text += f", a tie being half, after {num_steps:,} steps"
  if score.speed_up_over_tasks is not None:
    speed_up = table_cells.interval(
      score.speed_up_over_tasks, at_most=score.speed_up_over_tasks_at_most
    )
    text += f"; speed-up {speed_up}"
  if score.loss_ratio is not None:
    ratio = table_cells.interval(score.loss_ratio_over_tasks)
    text += f"; loss ratio {ratio}"
  return f"{text}; failed runs: {table_cells.failed(score)}."


def _against(score: Score) -> str:
  """Says how an optimizer did beside the first of those under evaluation."""
  share = _share(
    score.won_over_tasks, table_cells.count_of_tasks(len(score.tasks)), _BOTH
  )
  text = f"{score.name} wins {share} against {score.other}"
  if score.loss_ratio is not None:
    ratio = table_cells.interval(score.loss_ratio_over_tasks)
    text += f"; loss ratio {ratio}"
  return f"{text}."


def _share(won: Estimate, of: str, over: str = "") -> str:
  """Returns a share of tasks, with what it might be on other tasks."""
  text = f"{100 * won.value:.0f} % of {of}"
  if not won.has_interval:
    return text
  return f"{text} ({table_cells.ends_of_share(won)}{over})"
