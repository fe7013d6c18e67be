"""Tables of what optimizers achieve on a suite as a whole.

Names: `overview`, `wins`, `against_baselines`, `against_first`,
`against_first_scores`, `best_adam_note`, `AT_EDGE`, `OVER_TASKS`.
"""

from collections.abc import Iterable

from meta_train.evaluation import rankings
from meta_train.evaluation import scores as scores_lib
from meta_train.evaluation.baseline_runs import REFERENCE
from meta_train.evaluation.best_adam import (
  ADAMS,
  BEST_ADAM,
  num_adams,
  with_best_adam,
)
from meta_train.evaluation.scores import Score
from meta_train.evaluation.standings import Standings
from meta_train.reports.table_cells import (
  FAILED,
  count_of_tasks,
  counts,
  ends_of_share,
  failed_briefly,
  interval,
  no_ratio,
  of,
  share,
  sure,
  worst,
)
from meta_train.reports.tables import Table


def overview(found: Standings) -> Table:
  """Returns how fast and how good all optimizers are beside tuned Adam.

  Args:
    found: all results.
  """
  ranks = rankings.average_ranks(found)
  scored = _against_reference(found)
  rows = [
    [
      score.name,
      str(len(score.tasks)),
      interval(score.speed_up, at_most=score.speed_up_at_most),
      of(score.num_censored, score.num_speed_ups),
      "1" if score.name == REFERENCE else interval(score.speed_ratio),
      "1" if score.name == REFERENCE else interval(score.loss_ratio),
      f"{ranks[score.name]:.2f}" if ranks else "none",
      _bytes_per_parameter(found, score.name),
    ]
    for score in scored
  ]
  return Table(
    "overview",
    f"Against {REFERENCE}, tuned",
    ("Optimizer", "Tasks", "Speed-up", "Censored", "Speed ratio", "Loss ratio")
    + (f"Rank on {count_of_tasks(len(found.common_tasks))}",)
    + ("Bytes per parameter",),
    rows,
    "Each line is of the tasks that its optimizer and Adam have runs on; ranks "
    "are of those that all optimizers have. "
    "Interquartile means (of the middle half of all tasks for the speed-up, of "
    "all runs for the ratios), with the 95 % interval of a stratified "
    "bootstrap over seeds, not over tasks; there is none where each task has a "
    "single seed. Speed-up: steps that the lower "
    "envelope of Adam's learning rates needs for the loss that the optimizer "
    "ends at, in the mean over seeds, over the steps taken (VeLO); censored on "
    "tasks where Adam never got as low, and then counted as what was looked "
    "at, so that the mean, or the upper end of its interval, may be no more "
    "than a lower bound (at least, more than); 0 where a run diverged. The "
    "envelope's seeds are not drawn anew. Speed ratio and loss ratio: against "
    "Adam at its best constant rate, run by run (after Celo); above 1 is "
    "better. Adam's own speed-up is what there is to reach: below 1 where it "
    "is at its floor long before the end. Bytes per parameter: what the "
    "optimizer keeps, on all of its tasks, over their parameters."
    + no_ratio({score.name: score for score in scored}),
  )


def _bytes_per_parameter(found: Standings, name: str) -> str:
  """Returns the size of an optimizer's states over that of the parameters."""
  tasks = [
    task
    for task in found.tasks
    if name in found.state_bytes[task] and task in found.parameters
  ]
  if not tasks:
    return "none"
  size = sum(found.state_bytes[task][name] for task in tasks)
  return f"{size / max(1, sum(found.parameters[task] for task in tasks)):.1f}"


def wins(found: Standings) -> Table:
  """Returns how often all optimizers beat tuned Adam, and where they fail.

  Args:
    found: all results.
  """
  scored = _against_reference(found)
  rows = [
    [score.name, *([""] * 5), failed_briefly(score), ""]
    if score.name == REFERENCE
    else [score.name, *_won(score), failed_briefly(score), worst(score)]
    for score in scored
  ]
  return Table(
    "wins",
    f"Tasks won against {REFERENCE}, tuned",
    ("Optimizer", *_WON_HEADER, "Ended badly / blew up", "Worst task"),
    rows,
    f"{_WON}{OVER_TASKS}{_sure_note(scored)}{FAILED}Worst: ratio of "
    f"{REFERENCE}'s mean final loss to that of the optimizer; instead of it "
    f"diverged where a run of it did, and {REFERENCE} at 0 where that ends at "
    "exactly 0 and it does not.",
  )


def _against_reference(found: Standings) -> list[Score]:
  scored = [
    scores_lib.score(found, name, REFERENCE) for name in found.optimizers
  ]
  return [score for score in scored if score is not None]


_WON_HEADER = ("Tasks won", "Over tasks too", "Won / tied / lost") + (
  "Won on held-out data",
  "Sure wins / losses",
)


def _won(score: Score) -> list[str]:
  """Returns the cells of `_WON_HEADER`."""
  return [
    share(score.won),
    ends_of_share(score.won_over_tasks),
    counts(score),
    share(score.won_held_out),
    sure(score),
  ]


_WON_BY = (
  "Tasks won: by the mean final training loss; the share counts a tie (within "
  "1e-5 of the larger magnitude) as half, and won / tied / lost count all "
  "three. Won on held-out data: by the mean final loss on the held-out split, "
  "of the tasks that have one"
)
_WON = (
  f"{_WON_BY}, against the baseline at the rate of its grid that is "
  "best by that loss, where the rates have been run on all seeds. "
)
#: What the column is, and what brackets hold.
OVER_TASKS = (
  "Intervals in brackets are over seeds alone; over tasks too: the interval of "
  "the share of tasks won if tasks, and then their seeds, are drawn anew. "
)


def _sure_note(scored: Iterable[Score]) -> str:
  """Says what sure means, and how many are so by chance."""
  others = [score for score in scored if score.name != score.other]
  most = max(others, key=lambda score: score.false_sure, default=None)
  if most is None or not most.false_sure:
    return (
      "Sure wins and losses need p < 0.05 in a paired sign-flip test over "
      "seeds, which fewer than five can't give. "
    )
  return (
    "Sure: p < 0.05 in a paired sign-flip test over seeds, of which it takes "
    f"five; of equal optimizers {most.false_sure:.1f} of "
    f"{count_of_tasks(len(most.tasks))} would be sure wins by chance, and as "
    "many sure losses. "
  )


def against_baselines(found: Standings) -> Table:
  """Returns each candidate against each baseline, and the best of all Adams.

  Args:
    found: all results.
  """
  found = with_best_adam(found)
  scored = [
    score
    for name in found.candidates
    for other in found.baselines
    if (score := scores_lib.score(found, name, other)) is not None
  ]
  rows = [
    [
      score.name,
      score.other,
      *_won(score),
      interval(score.speed_ratio),
      interval(score.loss_ratio),
      of(score.num_at_edge, len(score.tasks)),
    ]
    for score in scored
  ]
  lines = {f"{score.name} against {score.other}": score for score in scored}
  return Table(
    "against_baselines",
    "Against every tuned baseline",
    ("Optimizer", "Baseline", *_WON_HEADER)
    + ("Speed ratio", "Loss ratio", "At edge"),
    rows,
    f"{best_adam_note(found)}{AT_EDGE} {_WON}{OVER_TASKS}"
    f"{_sure_note(scored)}" + no_ratio(lines).strip(),
  )


#: What the column is.
AT_EDGE = (
  "At edge: tasks on which the baseline's best learning rate is the highest or "
  "the lowest of its grid, so that a wider grid might do better."
)


def best_adam_note(found: Standings) -> str:
  """Says what the best Adam is, where it is one of the baselines.

  Args:
    found: all results.
  """
  if not set(ADAMS) <= set(found.baselines):
    return ""
  return (
    f"{BEST_ADAM}: on each task the better of {' and '.join(ADAMS)}, each at "
    f"its best rate, so with the stated grids the best of {num_adams()} tuned "
    "runs; chosen by the mean final loss, of the held-out split for that "
    "column. "
  )


def against_first(found: Standings) -> Table:
  """Returns the candidates against the first of them, without rows if alone.

  Args:
    found: all results.
  """
  scored = against_first_scores(found)
  first = found.candidates[0] if found.candidates else ""
  return Table(
    "against_first",
    f"Against {first}",
    ("Optimizer", *_WON_HEADER, "Speed ratio", "Loss ratio")
    + ("Ended badly / blew up", "Worst task"),
    [
      [
        score.name,
        *_won(score),
        interval(score.speed_ratio),
        interval(score.loss_ratio),
        failed_briefly(score),
        worst(score),
      ]
      for score in scored
    ],
    "The optimizers under evaluation against the first of them, run by run, "
    "with the same first parameters and batches; ratios are interquartile "
    f"means over all runs, above 1 better than {first}. {_WON_BY}. {OVER_TASKS}"
    f"{_sure_note(scored)}{FAILED}Worst: ratio of {first}'s mean final loss to "
    f"that of the optimizer."
    + no_ratio({score.name: score for score in scored}),
  )


def against_first_scores(found: Standings) -> list[Score]:
  """Scores all candidates but the first against it.

  Args:
    found: all results.
  """
  scored = [
    scores_lib.score(found, name, found.candidates[0])
    for name in found.candidates[1:]
  ]
  return [score for score in scored if score is not None]
