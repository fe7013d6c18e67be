"""What a run ran on, for its environment.json.

Main names: `describe`, `task_sha256`.
"""

import datetime
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import jax

import flt_lopt

_PACKAGES = (
  ("jax", "jaxlib", "optax", "dm-haiku", "chex", "numpy")
  + ("absl-py", "safetensors", "jaxtyping", "tqdm")
  + ("scikit-learn", "matplotlib")
)


def describe(*, seed: int, command: Sequence[str]) -> dict[str, Any]:
  """Returns versions, platform, devices, command line and revision.

  Starts jax if it has not started.

  Args:
    seed: the run's seed.
    command: the command line.
  """
  devices = jax.devices()
  return {
    "started": datetime.datetime.now().astimezone().isoformat("T", "seconds"),
    "command": list(command),
    "seed": seed,
    "python": platform.python_version(),
    "platform": platform.platform(),
    "cpu_count": os.cpu_count(),
    "backend": devices[0].platform,
    "device_kind": devices[0].device_kind,
    "num_devices": len(devices),
    "versions": {
      "flt-lopt": flt_lopt.__version__,  # Also where it is not installed.
      **{name: _version(name) for name in _PACKAGES},
    },
    "git_revision": _git_revision(),
  }


def task_sha256(task: str) -> str | None:
  """Returns the hash of the source of a task of the user's own.

  Args:
    task: module:Name, which has been imported.

  Returns:
    The SHA-256 of the module's file; None where there is none.
  """
  module = sys.modules.get(task.partition(":")[0])
  file = getattr(module, "__file__", None)
  if not file:
    return None
  try:
    return hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest()
  except OSError:
    return None


def _version(package: str) -> str | None:
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def _git_revision() -> str | None:
  """Returns the commit of a source tree, with + if it was changed since."""
  root = pathlib.Path(__file__).resolve().parents[2]
  # An installed package may lie inside a repository that is not ours.
  if not (root / ".git").exists():
    return None

  def git(*arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(
      command, capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()

  try:
    changed = git("status", "--porcelain", "--untracked-files=no")
    return git("rev-parse", "HEAD") + ("+" if changed else "")
  except (OSError, subprocess.SubprocessError):
    return None
