"""The rows of a run for TensorBoard, beside metrics.jsonl.

Main names: `open_writer`.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from meta_train.errors import UserError

FOLDER = "tensorboard"

Write = Callable[[dict[str, Any]], None]


@contextlib.contextmanager
def open_writer(path: pathlib.Path, *, wanted: bool) -> Iterator[Write]:
  """Yields a function that writes a row, or does nothing if not `wanted`.

  Rows of outer steps that an earlier start had taken beyond the checkpoint
  it was resumed from stand twice; TensorBoard shows the later ones.

  Args:
    path: the run's folder.
    wanted: whether anything is to be written.

  Raises:
    UserError: tensorboardX is not installed.
  """
  if not wanted:
    yield lambda row: None
    return
  try:
    from tensorboardX import SummaryWriter
  except ModuleNotFoundError:
    raise UserError(
      '--tensorboard needs tensorboardX; pip install "flt-lopt[tensorboard]"'
    ) from None
  with SummaryWriter(str(path / FOLDER)) as writer:

    def write(row: dict[str, Any]) -> None:
      for name, value in row.items():
        if name != "outer_step":
          writer.add_scalar(name, value, row["outer_step"])

    yield write
