"""The rows of a run for TensorBoard, beside metrics.jsonl.

A start writes all rows so far to a file of its own in place of the former
ones, then each row as it comes. So TensorBoard never shows more than the rows
do, nor less after a kill. Where that cannot be written the run goes on.

Main names: `open_writer`.
"""

import contextlib
import pathlib
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from absl import logging

from flt_lopt import _atomic_file
from meta_train.errors import UserError

FOLDER = "tensorboard"

Row = dict[str, Any]
Write = Callable[[Row], None]


@contextlib.contextmanager
def open_writer(
  path: pathlib.Path, *, wanted: bool, rows: Iterable[Row] = ()
) -> Iterator[Write]:
  """Yields a function that writes a row, or does nothing if not `wanted`.

  Args:
    path: the run's folder.
    wanted: whether anything is to be written.
    rows: what earlier starts have written, with an `outer_step` each.

  Raises:
    UserError: tensorboardX is not installed.
  """
  if not wanted:
    yield lambda row: None
    return
  try:
    from tensorboardX import record_writer  # noqa: F401
  except ModuleNotFoundError:
    raise UserError(
      '--tensorboard needs tensorboardX; pip install "flt-lopt[tensorboard]"'
    ) from None
  writes = True
  with contextlib.ExitStack() as stack:
    try:
      file = _begin(path / FOLDER, rows)
      # What could not be written has been told.
      stack.enter_context(contextlib.suppress(OSError))
      stack.enter_context(file)
    except OSError as error:
      writes = False
      _tell(error)

    def write(row: Row) -> None:
      nonlocal writes
      if not writes:
        return
      try:
        file.write(_event(row))
        file.flush()
      except OSError as error:
        writes = False
        _tell(error)

    yield write


def _begin(folder: pathlib.Path, rows: Iterable[Row]):
  """Writes a file of these rows, removes all others and opens it."""
  former = list(folder.glob("*tfevents*"))
  folder.mkdir(exist_ok=True)
  # A new name, since TensorBoard may have read half of the former file.
  path = folder / f"events.out.tfevents.{time.time_ns()}"
  text = b"".join([_event(None), *map(_event, rows)])
  _atomic_file.write_bytes(path, text)
  for file in former:
    file.unlink(missing_ok=True)
  return path.open("ab")


def _tell(error: OSError) -> None:
  logging.warning(
    "rows for TensorBoard cannot be written (%s); metrics.jsonl has them, and "
    "the next start writes them anew",
    error.strerror or error,
  )


def _event(row: Row | None) -> bytes:
  """Returns a row as a record; None: what a file begins with."""
  from tensorboardX.proto import event_pb2, summary_pb2

  if row is None:
    event = event_pb2.Event(file_version="brain.Event:2")
  else:
    values = [
      summary_pb2.Summary.Value(tag=name, simple_value=float(value))
      for name, value in row.items()
      if name != "outer_step" and value is not None and np.isfinite(value)
    ]
    event = event_pb2.Event(
      step=row["outer_step"], summary=summary_pb2.Summary(value=values)
    )
  event.wall_time = time.time()
  return _record(event.SerializeToString())


def _record(data: bytes) -> bytes:
  from tensorboardX.record_writer import masked_crc32c

  length = struct.pack("<Q", len(data))
  sums = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
  return b"".join([length, next(sums), data, next(sums)])
