"""Set up the machine before jax starts: devices and compilation cache.

On a CPU, XLA runs the parts of a sharded program at once only if it sees
several devices, so it is told to make one of each core. Compiled programs are
kept on disk, which makes every later start fast.

Main names: `set_up`, `stay_off_devices`, `devices`, `num_cores`,
`cache_folder`.
"""

import math
import os
import pathlib
import sys

import jax

from meta_train.engine import processes
from meta_train.errors import UserError

_CPU_MAX = pathlib.Path("/sys/fs/cgroup/cpu.max")


def set_up(
  num_devices: int,
  compilation_cache_dir: str,
  *,
  coordinator_address: str = "",
  num_processes: int = 1,
  process_id: int = -1,
) -> processes.Group:
  """Configures jax and finds the run's other processes.

  Call it before anything computes. The arguments are the flags of these names.

  Args:
    num_devices: of this process; 0: on a CPU one per core, else all.
    compilation_cache_dir: see `cache_folder`.
    coordinator_address: see `processes.join`.
    num_processes: likewise.
    process_id: likewise.

  Returns:
    The processes of the run.

  Raises:
    UserError: the cache folder the user named cannot be made, there are
      fewer devices than asked for, or the processes do not come together.
  """
  # More devices than cores only slow each other down, so there are as many
  # only for those who told jax itself.
  told = getattr(jax.config, "jax_num_cpu_devices", -1)
  most = max(num_cores(), told)
  _set_num_devices(min(num_devices, most) or num_cores())
  folder = cache_folder(compilation_cache_dir)
  if folder is not None:
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Small programs too: a start consists of many of them.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  group = processes.join(coordinator_address, num_processes, process_id)
  devices(num_devices)
  return group


def stay_off_devices() -> None:
  """Keeps this process on the CPU, and accelerators free for its children.

  Call it before anything computes.
  """
  jax.config.update("jax_platforms", "cpu")


def devices(count: int) -> list[jax.Device]:
  """Returns the devices to share the tasks among.

  Args:
    count: how many; 0: all there are.

  Raises:
    UserError: there are fewer devices than asked for.
  """
  found = jax.local_devices()
  if count > len(found):
    kind = found[0].platform
    reason = f" (this machine has {num_cores()} cores)" if kind == "cpu" else ""
    raise UserError(
      f"--num_devices={count} is more than the {len(found)} "
      f"{kind} device(s) there are{reason}; use 0 for all of them"
    )
  return found[: count or len(found)]


def num_cores() -> int:
  """Returns the number of CPU cores this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return min(len(os.sched_getaffinity(0)), _quota())
  return os.cpu_count() or 1


def _quota() -> int:
  """Returns how many cores' time a container may use, begun ones included."""
  try:
    quota, period = _CPU_MAX.read_text().split()
    return max(1, math.ceil(int(quota) / int(period)))
  except (OSError, ValueError, ZeroDivisionError):
    return sys.maxsize  # There is none, which is written as "max".


def cache_folder(name: str) -> pathlib.Path | None:
  """Returns the folder for compiled programs, made if need be.

  Args:
    name: a folder; "off" for none; empty for the one jax was told of by its
      environment variable, or else one in the user's cache folder.

  Returns:
    The folder, or None to keep nothing.

  Raises:
    UserError: the folder of that name cannot be made.
  """
  if name == "off":
    return None
  if name:
    try:
      folder = pathlib.Path(name).expanduser()
      folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
      raise UserError(
        f"--compilation_cache_dir={name} cannot be made ({error}); name "
        "another folder, or off"
      ) from None
    return folder
  if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
    return pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"])
  try:
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(home) / "flt_lopt" / "xla"
    folder.mkdir(parents=True, exist_ok=True)
  except (OSError, RuntimeError):
    return None  # A home that cannot be written costs time, not the run.
  return folder


def _set_num_devices(count: int) -> None:
  if "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
    return  # The older way to say the same; jax refuses both at once.
  try:
    jax.config.update("jax_num_cpu_devices", count)
  except RuntimeError:
    pass  # jax has started already: `devices` says if that matters.
