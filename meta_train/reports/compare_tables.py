"""The table of a comparison, and the words under it.

Names: `table`, `definition`, `budgets`, `chosen_by`, `sentences`.
"""

from collections.abc import Sequence

from meta_train.comparing.members import shown
from meta_train.comparing.outcomes import Outcome, Run
from meta_train.reports.table_cells import interval, number, share
from meta_train.reports.tables import Table

_DEFINITION = (
  "Loss ratio: the final training loss of {reference} over that of the value, "
  "run by run (of the same meta-seed and the same seed of the evaluation, with "
  "the same first parameters and batches), as the interquartile mean over the "
  "runs of all tasks together; above 1 is better. Tasks won: by the final "
  "training loss, in the mean over meta-seeds and seeds, a tie (within 1e-5 of "
  "the larger magnitude) being half. Intervals are of 95 %, by a bootstrap "
  "that draws meta-seeds anew for all tasks together and evaluation seeds for "
  "each task; tasks are not drawn. {seeds}Validation scores are the last ones; "
  "0 is the value's own untrained optimizer, and lower is better. "
  "Meta-parameters are all there are, learned or frozen; state is in floats "
  "per parameter of a matrix; seconds are the median over rows of "
  "metrics.jsonl."
)


def table(setting: str, outcomes: Sequence[Outcome]) -> Table:
  """Returns what each value costs and how it fares against the first.

  Args:
    setting: what differs.
    outcomes: of all values, the reference first.
  """
  rows = []
  for each in outcomes:
    rows.append(
      [
        shown(each.value),
        _same([run.meta_parameters for run in each.runs]),
        _same([run.state_floats for run in each.runs]),
        ", ".join(number(run.seconds) for run in each.runs),
        ", ".join(number(run.final_score) for run in each.runs),
        *_score(each, is_reference=each is outcomes[0]),
      ]
    )
  return Table(
    "compare",
    f"Values of {setting}, against {shown(outcomes[0].value)}",
    (setting, "Meta-parameters", "State", "Seconds per outer step")
    + ("Validation scores", "Loss ratio", "Tasks won", "Tasks"),
    rows,
    " ".join([definition(outcomes), budgets(outcomes)]),
  )


def definition(outcomes: Sequence[Outcome]) -> str:
  """Returns what the numbers are.

  Args:
    outcomes: of all values, the reference first.
  """
  count = max(len(each.runs) for each in outcomes)
  seeds = (
    "There is a single meta-seed, so intervals do not cover meta-training's "
    "own noise: other seeds of it may turn the order. "
    if count == 1
    else f"{count} meta-seeds show {count - 1}/{count} of the variance between "
    "them. "
  )
  return _DEFINITION.format(reference=shown(outcomes[0].value), seeds=seeds)


def budgets(outcomes: Sequence[Outcome]) -> str:
  """Says how long each run was meta-trained.

  Args:
    outcomes: of all values.
  """
  found: dict[tuple[int, int], list[str]] = {}
  for each in outcomes:
    for run in each.runs:
      budget = (run.outer_steps, run.inner_steps)
      found.setdefault(budget, []).append(run.name)
  if len(found) == 1:
    return f"The budget of every run: {_steps(*next(iter(found)))}."
  lines = [f"{_steps(*key)} ({', '.join(x)})" for key, x in found.items()]
  return f"Budgets are not equal: {'; '.join(lines)}."


def sentences(outcomes: Sequence[Outcome]) -> list[str]:
  """Says of each value in a sentence how it fares.

  Args:
    outcomes: of all values, the reference first.
  """
  reference = shown(outcomes[0].value)
  return [
    f"{shown(each.value)} against {reference}: "
    + (
      "nothing is evaluated yet."
      if each.score is None
      else f"loss ratio {interval(each.score.loss_ratio)}, "
      f"{share(each.score.won)} of {each.score.tasks} tasks won, "
      f"{each.score.meta_seeds} "
      f"meta-seed{'' if each.score.meta_seeds == 1 else 's'}."
    )
    for each in outcomes[1:]
  ]


def chosen_by(outcomes: Sequence[Outcome], tasks: Sequence[str]) -> str:
  """Says how many of the evaluation's tasks the results were chosen by.

  Args:
    outcomes: of all values.
    tasks: of the evaluation.
  """
  known = set().union(*(_chosen(run) for each in outcomes for run in each.runs))
  common = known & set(tasks)
  if not common:
    return ""
  return (
    f"Of the {len(tasks)} tasks here, {len(common)} took part in choosing "
    "theta (--result=best), for all values alike."
  )


def _chosen(run: Run) -> set[str]:
  if run.result != "best" or not run.validation:
    return set()
  columns = run.validation[-1]
  return {x.removeprefix("score/") for x in columns if x.startswith("score/")}


def _score(each: Outcome, *, is_reference: bool) -> list[str]:
  if is_reference:
    return ["1, itself", "itself", ""]
  if each.score is None:
    return ["none", "none", "0"]
  score = each.score
  without = f", {score.without_ratio} without a ratio"
  return [
    interval(score.loss_ratio),
    share(score.won),
    f"{score.tasks}{without if score.without_ratio else ''}",
  ]


def _same(values: Sequence[int | None]) -> str:
  """Returns a number that all runs share, or all that there are."""
  found = dict.fromkeys(f"{x:,}" for x in values if x is not None)
  return " or ".join(found) or "none"


def _steps(outer: int, inner: int) -> str:
  return f"{outer:,} outer steps, {inner:,} inner steps"
