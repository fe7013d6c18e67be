"""`report.html` during a run: made again now and then, at a bounded cost.

While the run goes on the page asks the browser to load it again. A page that
cannot be made is a warning and no more: it can be made after the run.

Main names: `LiveReport`.
"""

import pathlib
import time
from collections.abc import Callable

from absl import logging

from flt_lopt import _atomic_file

#: The page takes at most this share of the run's time.
SHARE = 0.02


class LiveReport:
  """Makes the page when it is due; final.

  Args:
    path: the run's folder.
    every_s: least time between two pages; 0: never.
    write: makes the page and returns where it is.
    clock: seconds, ever increasing.
  """

  def __init__(
    self,
    path: pathlib.Path,
    *,
    every_s: float,
    write: Callable[[pathlib.Path], pathlib.Path],
    clock: Callable[[], float] = time.monotonic,
  ):
    self._path = path
    self._every_s = every_s
    self._write = write
    self._clock = clock
    self._due_s = clock() + every_s if every_s else float("inf")

  def update(self) -> bool:
    """Makes the page if it is due, and returns whether it did."""
    now_s = self._clock()
    if now_s < self._due_s:
      return False
    try:
      page = self._write(self._path)
      text = page.read_text(encoding="utf-8")
      again = f'<meta http-equiv="refresh" content="{round(self._every_s)}">'
      live = text.replace("<head>", f"<head>\n{again}", 1)
      _atomic_file.write_bytes(page, live.encode())
    except Exception as error:  # Whatever it is, the run is worth more.
      logging.warning("report.html cannot be made during the run: %r", error)
      self._due_s = float("inf")
      return False
    done_s = self._clock()
    wait_s = max(self._every_s, (done_s - now_s) / SHARE)
    self._due_s = done_s + wait_s
    return True
