"""Programs of ours as child processes, one after another.

A child says what it says to whoever watches, and is asked to end when we are:
a run of meta-training saves then, an evaluation has its rows on the disk. It
is in a process group of its own, so that Ctrl-C reaches it once, through us.

Main names: `run`.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from meta_train.command import signals
from meta_train.errors import UserError


def run(module: str, arguments: Sequence[str], *, what: str) -> None:
  """Runs a program to its end.

  Args:
    module: its name for `python -m`.
    arguments: its flags.
    what: it, for the error.

  Raises:
    UserError: it failed; it has said why.
    Stopped: we, or it, were asked to end, and it has ended.
  """
  # Without -P the current folder would hide what it was given for.
  options = ["-P"] if sys.flags.safe_path else []
  child = None
  asked_early = False

  def terminate() -> None:
    nonlocal asked_early
    if child is None:
      asked_early = True
    elif child.poll() is None:
      child.terminate()

  with signals.passed_on(terminate) as asked:
    child = subprocess.Popen(
      [sys.executable, *options, "-m", module, *arguments],
      stdin=subprocess.DEVNULL,
      process_group=0 if os.name == "posix" else None,
    )
    if asked_early:
      child.terminate()
    code = child.wait()
  if asked.number:
    raise signals.Stopped(asked.number)
  for number in (signal.SIGINT, signal.SIGTERM):
    if code in (128 + number, -number):
      raise signals.Stopped(number)
  if code:
    raise UserError(
      f"{what} ended with exit code {code}, see above; mend that, and the same "
      "command continues"
    )
