"""The results of sweeps: standings at each value of what was changed.

Names: `Sweep`, `sweeps_in`.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from meta_train.evaluation import row_standings, sweeps
from meta_train.evaluation.gaps import gaps
from meta_train.evaluation.standings import Standings
from meta_train.rows import Row

#: Sweeps of what an optimizer is told, and a baseline is not.
TOLD = ("told_steps",)


@dataclasses.dataclass(frozen=True)
class Sweep:
  """The results of one sweep.

  Attributes:
    name: of the sweep.
    settings: value -> the standings there, in the order of the sweep. What a
      baseline is not told changes nothing for it: its runs of the one setting
      that has some are at all of them.
  """

  name: str
  settings: Mapping[str, Standings]


def sweeps_in(
  rows: Iterable[Row], *, num_seeds: int | None = None
) -> tuple[list[Sweep], list[str]]:
  """Puts the rows of sweeps together; others are left out.

  Args:
    rows: rows as `meta_train.evaluation.evaluate` writes them.
    num_seeds: as for `row_standings.standings`.

  Returns:
    The sweeps, and a sentence for each thing that is missing.
  """
  found: dict[str, dict[str, list[Row]]] = {}
  for row in rows:
    if row["setting"]:
      settings = found.setdefault(row["setting"]["sweep"], {})
      settings.setdefault(row["setting"]["value"], []).append(row)
  made: list[Sweep] = []
  problems: list[str] = []
  for name, each in found.items():
    there: dict[str, Standings] = {}
    for value, group in _in_order(name, each):
      kept, left_out = row_standings.of_newest_definition(group)
      there[value] = row_standings.of_rows(kept)
      problems += [f"{name} {value}: {sentence}" for sentence in left_out]
    if name in TOLD:
      there = _with_untold(there)
    problems += _sweep_gaps(name, there, num_seeds)
    made.append(Sweep(name, there))
  return made, problems


def _in_order(
  sweep: str, settings: Mapping[str, list[Row]]
) -> list[tuple[str, list[Row]]]:
  """Returns settings in the order of their sweep, those it lacks behind."""
  known: list[str] = []
  if sweep in sweeps.list_sweeps():
    known = [each.value for each in sweeps.make_sweep(sweep)]
  return sorted(
    settings.items(),
    key=lambda item: known.index(item[0]) if item[0] in known else len(known),
  )


def _sweep_gaps(
  name: str, settings: Mapping[str, Standings], num_seeds: int | None
) -> list[str]:
  """Says what settings lack, and once what all of them do."""
  where: dict[str, list[str]] = {}
  for value, found in settings.items():
    for sentence in gaps(found, num_seeds, speed_ups=False):
      where.setdefault(sentence, []).append(value)
  return [
    f"{name}: {sentence}"
    if len(values) == len(settings)
    else f"{name} {', '.join(values)}: {sentence}"
    for sentence, values in where.items()
  ]


def _with_untold(settings: Mapping[str, Standings]) -> dict[str, Standings]:
  """Puts each baseline's runs of one setting where it has none."""
  filled = dict(settings)
  for source in settings.values():
    for name in source.baselines:
      for value, there in filled.items():
        if name not in there.baselines:
          filled[value] = there.with_optimizer(name, source)
  return filled
