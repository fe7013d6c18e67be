"""The folder of a run: its settings, rows and checkpoints, kept safe.

A folder belongs to one run and one process at a time. Opening it again
continues the run, and is refused when there is work in it and the settings
that shape its numbers differ, when another process holds it, or when it holds
something else; in all of these nothing in it is touched. Rows and checkpoints
are written so that a kill at any moment loses only work that the next start
repeats.

Main names: `open_run`, `RunFolder`, `has_checkpoint`, `to_continue`,
`is_finished`.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import chex

import flt_lopt
from flt_lopt import _atomic_file
from meta_train import config as config_lib
from meta_train import json_lines
from meta_train.errors import UserError
from meta_train.run import checkpoint as checkpoint_lib
from meta_train.run import csv_rows, locks, run_record

CONFIG = run_record.CONFIG
ENVIRONMENT = run_record.ENVIRONMENT
METRICS = "metrics.jsonl"
TABLE = "metrics.csv"
VALIDATION = "validation.jsonl"
WEIGHTS = "theta.safetensors"
CHECKPOINTS = "checkpoints"
LOCK = ".lock"


class RunFolder:
  """An open run folder; make one with `open_run`, and use it in a `with`.

  Attributes:
    path: the folder.
    config: the settings of this start.
    metrics: the rows of `metrics.jsonl`, with an `outer_step` each.
    table: the same rows in `metrics.csv`.
    validation: the rows of `validation.jsonl`, with an `outer_step` each.
    checkpoints: the run's checkpoints.
    former: the settings so far of the run that is continued; None for a new
      one.
  """

  def __init__(
    self,
    path: pathlib.Path,
    config: config_lib.MetaTrainConfig,
    lock: locks.Lock,
    *,
    used: Mapping[str, int],
    command: Sequence[str] = (),
    former: config_lib.MetaTrainConfig | None = None,
  ):
    self.path = path
    self.config = config
    self._used = used
    self._lock = lock
    self._command = command
    self.former = former
    self.metrics = json_lines.JsonLines(path / METRICS)
    self.table = csv_rows.CsvRows(path / TABLE)
    self.validation = json_lines.JsonLines(path / VALIDATION)
    self.checkpoints = checkpoint_lib.CheckpointStore(
      path / CHECKPOINTS,
      keep=config.keep_checkpoints,
      owner=run_record.fixed_part(config),
      defaults=run_record.fixed_part(config_lib.MetaTrainConfig()),
    )

  def restore(
    self, template: chex.ArrayTree
  ) -> tuple[int, chex.ArrayTree] | None:
    """Returns where the run stands, and makes its rows agree with that.

    Args:
      template: the state at outer step 0: structure, shapes and dtypes.

    Returns:
      The number of outer steps done and the state after them; None for a
      run that has no checkpoint yet.

    This is what can still refuse to continue a run, so only then the files
    that describe it, config.json and environment.json, are written anew.

    Raises:
      UserError: no checkpoint can be used, or the newest is beyond
        `outer_steps`, or there are none of a run that had some. Rows and
        settings were not changed then.
    """
    found = self.checkpoints.restore(template)
    outer_step = 0 if found is None else found[0]
    if outer_step > self.config.outer_steps:
      raise UserError(
        f"--outer_steps={self.config.outer_steps} is less than the "
        f"{outer_step} that the run in {self.path} has done already; use at "
        f"least {outer_step}, or another --run_dir"
      )
    if found is None and self.former is not None:
      self._check_never_saved(self.former)
    try:
      self.checkpoints.set_aside()
      for rows in (self.metrics, self.validation):
        rows.keep(lambda row: 0 <= _outer_step(row) <= outer_step)
      self.table.rewrite(self.metrics.read())
      if self.former is not None:
        if found is not None:
          run_record.warn_of_changes(self.path, self.config, self._used)
        run_record.describe_start(
          self.path, self.config, self._command, self._used
        )
    except OSError as error:
      raise _unwritable(self.path, error) from None
    return found

  def append(self, row: Mapping[str, Any]) -> None:
    """Writes a row to `metrics.jsonl` and to the table.

    Raises:
      UserError: it cannot be written. The checkpoints are untouched.
    """
    with self.writing():
      self.metrics.append(**row)
      self.table.append(dict(row))

  def append_validation(self, row: Mapping[str, Any]) -> None:
    """Writes a row to `validation.jsonl`; raises as `append` does."""
    with self.writing():
      self.validation.append(**row)

  def save(
    self, outer_step: int, state: chex.ArrayTree, *, best: int | None = None
  ) -> None:
    """Writes a checkpoint; the rows so far are on the disk before it is.

    Args:
      outer_step: outer steps done.
      state: as for `restore`.
      best: outer steps of an older checkpoint that is to be kept too.
    """
    with self.writing():
      self.metrics.sync()
      self.validation.sync()
    self.checkpoints.save(outer_step, state, best=best)

  @contextlib.contextmanager
  def writing(self) -> Iterator[None]:
    """Makes an OSError a UserError that names the remedy.

    One that names a file elsewhere, as a task's data, is left as it is.
    """
    try:
      yield
    except OSError as error:
      if _is_elsewhere(error, self.path):
        raise
      raise UserError(
        f"{self.path} cannot be written ({error.strerror or error}); make "
        "room, then start the same command again: it continues from the last "
        "checkpoint"
      ) from error

  def _check_never_saved(self, former: config_lib.MetaTrainConfig) -> None:
    """Refuses a run whose checkpoints somebody has deleted."""
    # A run killed before its first checkpoint has rows, but not more.
    last = max(map(_outer_step, self.metrics.read()), default=0)
    what = f"{last} outer steps" if last > former.checkpoint_every else ""
    if _is_trained(self.path / WEIGHTS):
      what = WEIGHTS
    if what:
      raise UserError(
        f"the run in {self.path} has {what} but no checkpoint in "
        f"{self.checkpoints.folder} to continue from; put one back, name "
        "another --run_dir, or delete the folder to begin anew"
      )

  def close(self) -> None:
    """Closes the files and lets other processes have the folder."""
    try:
      self.metrics.close()
      self.validation.close()
    finally:
      self._lock.release()

  def __enter__(self) -> "RunFolder":
    return self

  def __exit__(self, *exc_info: object) -> None:
    self.close()


def open_run(
  config: config_lib.MetaTrainConfig,
  *,
  command: Sequence[str] = (),
  used: Mapping[str, int] | None = None,
) -> RunFolder:
  """Creates the folder of a run, or opens it to continue.

  Args:
    config: the settings; `config.folder` is the folder.
    command: the command line, for the record.
    used: how many devices and the like the run shares its tasks among, for
      the record; a run that continues with others says so.

  Returns:
    The open folder. In a new one, and in one without any work in it,
    config.json and environment.json are written; in one to be continued
    `RunFolder.restore` does that.

  Raises:
    UserError: the folder cannot be written, is in use, holds something
      else, or a run with other settings. Nothing in it was changed then.
  """
  path = pathlib.Path(config.folder).expanduser()
  used = used or {}
  _check_ours(path)
  try:
    path.mkdir(parents=True, exist_ok=True)
    lock = locks.acquire(path / LOCK, what=f"the run folder {path}")
  except OSError as error:
    raise _unwritable(path, error) from None
  try:
    # Again: another process may have begun a run before we had the lock.
    former = to_continue(config)
    if former is None:
      run_record.describe_start(path, config, command, used)
    return RunFolder(
      path, config, lock, command=command, former=former, used=used
    )
  except OSError as error:
    lock.release()
    raise _unwritable(path, error) from None
  except BaseException:
    lock.release()
    raise


def to_continue(
  config: config_lib.MetaTrainConfig,
) -> config_lib.MetaTrainConfig | None:
  """Returns the settings so far of the run that a start would continue.

  Nothing is written.

  Args:
    config: the settings of the start.

  Returns:
    The settings; None where it would begin a run.

  Raises:
    UserError: the folder holds something else, or a run with other settings.
  """
  path = pathlib.Path(config.folder).expanduser()
  _check_ours(path)
  former = None
  if (path / CONFIG).exists():
    former = run_record.read_config(path)
  # A start that failed before its first row binds nobody.
  if former is None or not _has_work(path):
    return None
  run_record.check_same(path, former, config)
  return former


def is_finished(config: config_lib.MetaTrainConfig) -> bool:
  """Returns whether the run in the folder has the result of these settings.

  Its weights tell what they were made by, and are written when all is done.

  Args:
    config: the settings.
  """
  try:
    made_by = flt_lopt.read_provenance(
      pathlib.Path(config.folder).expanduser() / WEIGHTS
    )
  except flt_lopt.WeightsError:
    return False
  wanted = {"outer_steps": config.outer_steps, "result": config.result}
  # Settings that came later were at their defaults.
  settings = {
    **run_record.fixed_part(config_lib.MetaTrainConfig()),
    **made_by.get("settings", {}),
  }
  return settings == run_record.fixed_part(config) and all(
    made_by.get(name) == value for name, value in wanted.items()
  )


def has_checkpoint(path: pathlib.Path | str) -> bool:
  """Returns whether `restore` would find a checkpoint, whole or damaged."""
  folder = pathlib.Path(path).expanduser() / CHECKPOINTS
  return bool(checkpoint_lib.steps_in(folder))


def _check_ours(path: pathlib.Path) -> None:
  """Refuses a folder that holds anything but a run, before touching it."""
  try:
    names = [entry.name for entry in path.iterdir()]
  except FileNotFoundError:
    return
  except NotADirectoryError:
    raise UserError(
      f"{path} is a file or lies beneath one, so it cannot be a run folder; "
      "name another --run_dir"
    ) from None
  except OSError as error:
    raise UserError(
      f"the run folder {path} cannot be read ({error.strerror}); name "
      "another --run_dir"
    ) from None
  # A start killed before its config.json leaves these two and no more.
  rest = [n for n in names if n != LOCK and not _atomic_file.is_leftover(n)]
  if rest and CONFIG not in rest:
    raise UserError(
      f"the folder {path} is not empty and holds no run (it has "
      f"{sorted(rest)[0]}, but no {CONFIG}); name another --run_dir"
    )


def _has_work(path: pathlib.Path) -> bool:
  """Says whether a folder has anything that a start would replace."""
  return (
    has_checkpoint(path)
    or any(
      json_lines.JsonLines(path / name).read() for name in (METRICS, VALIDATION)
    )
    # Of no outer steps too: they, and what was measured of them, are a result.
    or (path / WEIGHTS).exists()
  )


def _outer_step(row: dict[str, Any]) -> int:
  """Returns the outer step of a row, -1 if it has none."""
  outer_step = row.get("outer_step")
  return outer_step if type(outer_step) is int else -1


def _is_trained(weights: pathlib.Path) -> bool:
  """Says whether weights are there that took outer steps to make."""
  if not weights.exists():
    return False
  try:
    # A run of no outer steps writes weights and never a checkpoint.
    return flt_lopt.read_provenance(weights).get("outer_steps") != 0
  except flt_lopt.WeightsError:
    return True


def _unwritable(path: pathlib.Path, error: OSError) -> UserError:
  return UserError(
    f"the run folder {path} cannot be written ({error.strerror or error}); "
    "name another --run_dir"
  )


def _is_elsewhere(error: OSError, folder: pathlib.Path) -> bool:
  if not isinstance(error.filename, str | os.PathLike):
    return False
  file = pathlib.Path(error.filename).resolve()
  return not file.is_relative_to(folder.resolve())
