"""Ctrl-C and SIGTERM: at once where nothing is lost, else after the step.

A batch system that needs the machine sends SIGTERM some seconds before it
takes it away, and somebody at a terminal presses Ctrl-C. While outer steps
are taken, the first such signal only asks the loop to save and end; a second
one, and the first at any other time, ends the program at once.

Main names: `terminable`, `noted`, `passed_on`, `Requests`, `Stopped`.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator

from meta_train.terminal import say

_NAMES: dict[int, str] = {
  signal.SIGINT: "interrupted",
  signal.SIGTERM: "terminated",
}


class Stopped(BaseException):
  """The program was asked to end; it unwinds like a KeyboardInterrupt.

  Attributes:
    code: the exit code, 128 plus the signal's number.
  """

  def __init__(self, number: int, saved: str = ""):
    """Makes it.

    Args:
      number: the signal.
      saved: what was saved, as a sentence's end; empty: nothing now.
    """
    what = saved or (
      "the same command continues from the last checkpoint, if there is one"
    )
    super().__init__(f"{_NAMES.get(number, 'stopped')}; {what}")
    self.code = 128 + number


class Requests:
  """Which signals have come while they were only noted.

  Attributes:
    number: the first signal; 0: none.
  """

  def __init__(self) -> None:
    self.number = 0


@contextlib.contextmanager
def terminable() -> Iterator[None]:
  """Makes SIGINT and SIGTERM raise `Stopped` inside the `with`."""

  def stop(number, frame):
    del frame
    # Another one may not stop the files from being closed.
    for each in _NAMES:
      signal.signal(each, signal.SIG_IGN)
    raise Stopped(number)

  with _handled(stop):
    yield


@contextlib.contextmanager
def noted() -> Iterator[Requests]:
  """Notes the first SIGINT or SIGTERM inside the `with`; a second one acts."""
  requests = Requests()

  def note(number, frame):
    del frame
    if requests.number:
      raise Stopped(number)
    requests.number = number
    say("\nstopping after this outer step; once more: at once")

  with _handled(note):
    yield requests


@contextlib.contextmanager
def passed_on(terminate: Callable[[], None]) -> Iterator[Requests]:
  """Notes signals inside the `with`, and asks a child process to end too.

  A closed terminal counts, since it would leave the child alone.

  Args:
    terminate: asks the child; called once for each signal.
  """
  requests = Requests()

  def pass_on(number, frame):
    del frame
    requests.number = requests.number or number
    terminate()

  # Windows has no such signal.
  hang_up = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []
  with _handled(pass_on, (*_NAMES, *hang_up)):
    yield requests


@contextlib.contextmanager
def _handled(handler, numbers: Iterable[int] = _NAMES) -> Iterator[None]:
  # Only the main thread may, and whoever ignores a signal, as nohup and some
  # batch systems do, keeps that.
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  old = {number: signal.getsignal(number) for number in numbers}
  ours = {number for number in old if old[number] is not signal.SIG_IGN}
  for number in ours:
    signal.signal(number, handler)
  try:
    yield
  finally:
    for number in ours:
      signal.signal(number, old[number])
