"""A folder of results is written by one program at a time.

Names: `hold`.
"""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from meta_train.errors import UserError
from meta_train.run import locks

LOCK = ".lock"


@contextlib.contextmanager
def hold(folder: str | os.PathLike) -> Iterator[None]:
  """Keeps other programs out of a folder.

  Args:
    folder: it is made if need be.

  Raises:
    UserError: another program is in it, or it can't be written.
  """
  path = pathlib.Path(folder).expanduser()
  try:
    path.mkdir(parents=True, exist_ok=True)
    lock = locks.acquire(path / LOCK, what=f"the folder {path}")
  except UserError:
    raise UserError(
      f"--folder={path} is being written by another program; wait for it, or "
      "name another folder"
    ) from None
  except OSError as error:
    raise UserError(
      f"--folder={path} can't be written ({error.strerror}); name another"
    ) from None
  try:
    yield
  finally:
    lock.release()
