"""Pieces of an evaluation, each computed once and kept in a file of rows.

Idea: a job makes all rows of one *group*, whose name says what was computed.
A group that the file holds whole is not computed again; after each job the
file is replaced as a whole. So an evaluation that is killed loses the jobs
under way, and the same command goes on with the next. What is found damaged,
and no job makes anew, is told.

Many jobs share the devices by taking one each, which also compiles as many
programs at once; few share each other's devices.

Names: `Job`, `run_jobs`.
"""

import os
import pathlib
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax

from meta_train.errors import UserError
from meta_train.rows import Row, read_rows, write_rows
from meta_train.terminal import say

#: Fields without which a row can't be told to be whole.
REQUIRED = ("group", "group_size", "seed")
Devices = Sequence[jax.Device]


class Job(NamedTuple):
  """What makes one group of rows.

  Attributes:
    group: a name that changes with whatever changes the rows.
    what: a line of text on what is computed, for the progress.
    run: makes the rows on the given devices.
  """

  group: str
  what: str
  run: Callable[[Devices], list[Row]]


def run_jobs(
  jobs: Iterable[Job],
  path: str | os.PathLike,
  *,
  keep: Callable[[Row], bool] = lambda row: False,
  required: Sequence[str] = (),
  devices: Devices | None = None,
  side_by_side: bool = False,
  on_job: Callable[[str], None] = lambda what: None,
  on_problem: Callable[[str], None] = say,
  on_failure: Callable[[Job, UserError], None] | None = None,
) -> list[Row]:
  """Runs the jobs whose rows are not there, and writes all rows.

  Args:
    jobs: in the order that their rows are to have.
    path: the file of rows.
    keep: whether to keep a row that belongs to none of the jobs.
    required: fields that all rows have, beside `REQUIRED`; one without them
      is damaged.
    devices: those to run on; `None`: all local ones.
    side_by_side: whether each job has one device for itself.
    on_job: called with a line of text before each job that is computed.
    on_problem: called with a sentence for each damaged line, and each group
      that was to be kept and has lost rows.
    on_failure: called with each job that the user must mend, and its error; its
      rows stay missing. `None`: such an error ends all.

  Returns:
    The rows that are now in the file.
  """
  path, jobs = pathlib.Path(path), list(jobs)
  wanted = {job.group for job in jobs}
  old, problems = _whole_groups(
    path,
    lambda row: row["group"] not in wanted and keep(row),
    (*REQUIRED, *required),
  )
  for problem in problems:
    on_problem(problem)
  others = [
    row
    for group, rows in old.items()
    if group not in wanted
    for row in rows
    if keep(row)
  ]
  done = {group: rows for group, rows in old.items() if group in wanted}

  def rows() -> list[Row]:
    ours = [done[job.group] for job in jobs if job.group in done]
    return [*others, *(row for group in ours for row in group)]

  def finish(job: Job, made: list[Row] | BaseException) -> None:
    if isinstance(made, UserError) and on_failure is not None:
      on_failure(job, made)
      return
    if isinstance(made, BaseException):
      raise made
    size = {"group": job.group, "group_size": len(made)}
    done[job.group] = [{**size, **row} for row in made]
    write_rows(path, rows())

  missing = [job for job in jobs if job.group not in done]
  devices = jax.local_devices() if devices is None else devices
  if side_by_side and len(devices) > 1 and len(missing) > 1:
    _run_side_by_side(missing, devices, finish, on_job)
  else:
    for job in missing:
      on_job(job.what)
      finish(job, _outcome(job, devices))
  write_rows(path, rows())
  return rows()


def _outcome(job: Job, devices: Devices) -> list[Row] | UserError:
  """Returns the rows, or the error that is the user's to mend."""
  try:
    return job.run(devices)
  except UserError as error:
    return error


def _whole_groups(
  path: pathlib.Path,
  is_missed: Callable[[Row], bool],
  required: Sequence[str],
) -> tuple[dict[str, list[Row]], list[str]]:
  """Returns the groups that are whole, and sentences on what is not.

  Args:
    path: the file of rows.
    is_missed: whether to tell that the group of a row is not whole.
    required: fields that all rows have.
  """
  if not path.exists():
    return {}, []
  read = read_rows(path, required=required)
  # A file without rows is as good as none.
  problems = read.problems if path.stat().st_size else []
  groups: dict[str, list[Row]] = {}
  for row in read.rows:
    groups.setdefault(row["group"], []).append(row)
  whole = {}
  for group, rows in groups.items():
    size = rows[0]["group_size"]
    if len(rows) == size:
      whole[group] = rows
    elif is_missed(rows[0]):
      name, task = (rows[0].get(x, "unknown") for x in ("optimizer", "task"))
      problems = [
        *problems,
        f"{path.name} has {len(rows)} of {size} rows of {name} on {task}; they "
        "were left out; evaluate it again.",
      ]
  return whole, problems


def _run_side_by_side(jobs, devices, finish, on_job) -> None:
  """Gives each device one job after the other; rows are written here."""
  todo: queue.SimpleQueue[Job] = queue.SimpleQueue()
  made: queue.SimpleQueue[tuple[Job, Any]] = queue.SimpleQueue()
  for job in jobs:
    todo.put(job)
  stopping = threading.Event()

  def work(device: jax.Device) -> None:
    while not stopping.is_set():
      try:
        job = todo.get_nowait()
      except queue.Empty:
        return
      on_job(job.what)
      try:
        with jax.default_device(device):
          made.put((job, _outcome(job, [device])))
      except BaseException as error:
        made.put((job, error))
        return

  for device in devices:
    # Daemons, so that Ctrl-C need not wait for a long job.
    threading.Thread(target=work, args=(device,), daemon=True).start()
  try:
    for _ in jobs:
      finish(*made.get())
  finally:
    stopping.set()
