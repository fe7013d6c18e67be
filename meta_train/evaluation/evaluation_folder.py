"""The folder of an evaluation: rows, what they are of, and on what machine.

`evaluation.jsonl` holds the rows, `overhead.jsonl` times per step,
`evaluation.json` what was evaluated and all that was refused or missing, and
`kernels-NAME.json` the learned weights over timesteps. A folder belongs to
one suite, number of steps and number of seeds; evaluations of other
optimizers, or of more tasks, add to it.

Names: `EvaluationFolder`, `open_folder`, `not_replaced`, `ABOUT`, `REQUIRED`.
"""

import dataclasses
import functools
import itertools
import os
import pathlib
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax

from meta_train.errors import UserError
from meta_train.evaluation import evaluate
from meta_train.evaluation.baseline_results import is_shipped
from meta_train.evaluation.definition import definition
from meta_train.rows import Row, read_json, read_rows, write_json, write_rows
from meta_train.run import environment

ABOUT = "evaluation.json"
OVERHEAD = "overhead.jsonl"
#: Fields of all rows, without which they can't be told apart.
REQUIRED = ("task", "optimizer", "setting")
_KIND = "flt_lopt evaluation"


class EvaluationFolder(NamedTuple):
  """An open folder; `open_folder` makes it.

  Attributes:
    path: the folder.
    owner: suite, steps and seeds that it belongs to.
  """

  path: pathlib.Path
  owner: dict[str, Any]

  @property
  def rows(self) -> pathlib.Path:
    """The file of rows."""
    return self.path / evaluate.FILE_NAME

  @property
  def overhead(self) -> pathlib.Path:
    """The file of times per step."""
    return self.path / OVERHEAD

  def add_shipped(self, shipped: Sequence[Row]) -> None:
    """Puts shipped rows of baselines in place of those that were there.

    Args:
      shipped: the rows.
    """
    replaced = {(row["task"], row["optimizer"]) for row in shipped}
    kept = [
      row
      for row in read_rows(self.rows, required=REQUIRED).rows
      if row["setting"] or (row["task"], row["optimizer"]) not in replaced
    ]
    write_rows(self.rows, [*kept, *shipped])

  def announce(
    self,
    plan: Any,
    config: Any,
    costed: tuple[Sequence[Any], Sequence[Any]] = ((), ()),
  ) -> list[str]:
    """Writes what is to be evaluated, how and where, beside what was before.

    So that a folder tells what it lacks, if the evaluation is stopped.

    Args:
      plan: see `meta_train.evaluation.evaluation_plan.Plan`.
      config: the flags.
      costed: tasks and optimizers of which time per step is to be measured.

    Returns:
      Names of optimizers that were others when they were evaluated before.
    """
    former = read_json(self.path / ABOUT)[0] or {}
    optimizers = former.get("optimizers", {})
    now = {
      candidate.name: {"fingerprint": candidate.fingerprint}
      for candidate in plan.candidates
    }
    rows = read_rows(self.rows, required=REQUIRED).rows
    there = {row["optimizer"] for row in rows}
    # Sweeps are of other tasks, and want other baselines, than the rest.
    kind = "sweep_" if plan.settings else ""
    tasks = [task.name for task in plan.tasks]
    baselines = {each.name: each.description for each in plan.baselines}
    self._write(
      {
        **former,
        **self.owner,
        f"{kind}tasks": _union(former.get(f"{kind}tasks", ()), tasks),
        "optimizers": {**optimizers, **now},
        f"{kind}baselines": {
          **former.get(f"{kind}baselines", {}),
          **baselines,
        },
        "sweeps": _sweeps(former.get("sweeps", {}), plan.settings),
        "overhead": _costs(former.get("overhead", {}), *costed),
        "settings": dataclasses.asdict(config),
        "environment": environment.describe(seed=0, command=sys.argv),
      }
    )
    return [
      name
      for name, each in now.items()
      if name in there and optimizers.get(name, each) != each
    ]

  def finish(self, plan: Any, problems: Sequence[str]) -> None:
    """Writes the learned weights over timesteps, and what is missing.

    Args:
      plan: see `meta_train.evaluation.evaluation_plan.Plan`.
      problems: a sentence for each thing that is missing.
    """
    learned = [each for each in plan.candidates if each.source is not None]
    for candidate in learned:
      _write_kernels(self.path, candidate)
    about = read_json(self.path / ABOUT)[0] or {}
    kept = _still_there(about.get("problems", ()), plan)
    kernels = _union(about.get("kernels", ()), [each.name for each in learned])
    self._write(
      {**about, "kernels": kernels, "problems": _union(kept, problems)}
    )

  def _write(self, about: dict[str, Any]) -> None:
    write_json(self.path / ABOUT, about)


def _sweeps(former: dict[str, list[str]], settings: Sequence[Any]) -> Any:
  """Returns the values of each sweep, with those of former evaluations."""
  values = dict(former)
  for each in settings:
    values[each.sweep] = _union(values.get(each.sweep, ()), [each.value])
  return values


def _costs(
  former: dict[str, list[str]], tasks: Sequence[Any], optimizers: Sequence[Any]
) -> dict[str, list[str]]:
  """Returns whose cost is known on each task, with those of before."""
  names = [each.variants[0].optimizer for each in optimizers]
  now = {task.name: _union(former.get(task.name, ()), names) for task in tasks}
  return {**former, **now}


def _union(*parts: Iterable[str]) -> list[str]:
  """Returns everything once, in order."""
  return list(dict.fromkeys(itertools.chain(*parts)))


def _still_there(problems: Iterable[str], plan: Any) -> list[str]:
  """Returns the sentences of former evaluations that this one did not try."""
  begins = [
    setting.refusal(each.name)
    for each in (*plan.tasks, *plan.candidates)
    for setting in plan.settings
  ]
  if plan.baselines and not plan.settings:
    begins = [f"{task.name}: " for task in plan.tasks]
  return [each for each in problems if not each.startswith(tuple(begins))]


def open_folder(
  path: str | os.PathLike, *, suite: str, num_steps: int, num_seeds: int
) -> EvaluationFolder:
  """Makes the folder, or opens it to continue.

  Args:
    path: the folder.
    suite: name of the suite.
    num_steps: inner steps of a run.
    num_seeds: runs of each optimizer on each task.

  Raises:
    UserError: it holds something else, or can't be written.
  """
  path = pathlib.Path(path).expanduser()
  owner = {
    "kind": _KIND,
    "task_suite": suite,
    "num_steps": num_steps,
    "num_seeds": num_seeds,
  }
  about, _ = read_json(path / ABOUT)
  packed = path / f"{evaluate.FILE_NAME}.gz"
  if packed.exists():
    raise UserError(
      f"--folder={path} holds published rows ({packed.name}), which nothing is "
      "added to; name another folder"
    )
  if about is None and (path / evaluate.FILE_NAME).exists():
    raise UserError(
      f"--folder={path} holds an {evaluate.FILE_NAME} that is not of this "
      "program; name another folder"
    )
  for name, value in owner.items():
    if about is not None and about.get(name) != value:
      raise UserError(
        f"--folder={path} holds an evaluation with {name}={about.get(name)}, "
        f"not {value}; name another folder, or delete this one"
      )
  try:
    path.mkdir(parents=True, exist_ok=True)
    if about is None:
      write_json(path / ABOUT, owner)
  except OSError as error:
    raise UserError(
      f"--folder={path} can't be written ({error.strerror}); name another"
    ) from None
  return EvaluationFolder(path, owner)


def not_replaced(plan: Any) -> Callable[[Row], bool]:
  """Returns what says whether an old row is not of this plan.

  Shipped rows are of it where their baseline is wanted, so that what is
  refused today does not stay from an earlier evaluation, and where they were
  measured on another definition of the task.

  Args:
    plan: see `meta_train.evaluation.evaluation_plan.Plan`.
  """
  tasks = {task.name: task for task in plan.tasks}
  wanted = {baseline.name for baseline in plan.baselines}
  defined = functools.cache(lambda name: definition(tasks[name]))
  optimizers = {
    variant.optimizer
    for candidate in plan.candidates
    for variant in candidate.variants
  }
  if plan.compute_baselines or plan.settings:
    optimizers |= wanted
  sweeps = {setting.sweep for setting in plan.settings} or {None}

  def keep(row: Row) -> bool:
    sweep = row["setting"]["sweep"] if row["setting"] else None
    if row["task"] in tasks and is_shipped(row) and not plan.settings:
      return row["optimizer"] not in wanted and (
        row.get("definition") == defined(row["task"])
      )
    return (
      row["task"] not in tasks
      or row["optimizer"] not in optimizers
      or sweep not in sweeps
    )

  return keep


def _write_kernels(path: pathlib.Path, candidate: Any) -> None:
  """Writes the kernels of a learned optimizer."""
  optimizer, theta = candidate.source
  untrained = optimizer.init(jax.random.key(0))
  evaluate.write_kernels(
    path / f"kernels-{candidate.name}.json", optimizer, theta, untrained
  )
