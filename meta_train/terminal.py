"""Text for whoever watches, who may have gone.

A terminal is closed, a pipe's reader ends, the disk of a log is full: none of
these may cost a run, so what cannot be said is not.

Main names: `say`, `heard`.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO


def say(text: str, stream: TextIO | None = None) -> None:
  """Prints a line; never raises, not even inside a signal handler.

  Args:
    text: the line.
    stream: where; None: standard error.
  """
  stream = sys.stderr if stream is None else stream
  try:
    # One write, since several threads may say something.
    stream.write(f"{text}\n")
    stream.flush()
  except BrokenPipeError:
    _leave(stream)
  # Full, closed, or in the middle of printing when a signal came.
  except (OSError, ValueError, RuntimeError):
    pass


@contextlib.contextmanager
def heard() -> Iterator[None]:
  """Ends the `with` in silence once nobody reads standard output."""
  try:
    yield
    sys.stdout.flush()
  except BrokenPipeError:
    _leave(sys.stdout)


def _leave(stream: TextIO) -> None:
  """Lets what is still to be written go nowhere, or the exit would fail."""
  with contextlib.suppress(OSError, ValueError):
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
