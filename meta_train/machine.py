"""Set up the machine before jax starts: devices and compilation cache.

On a CPU, XLA runs the parts of a sharded program at once only if it sees
several devices, so it is told to make one of each core. Compiled programs are
kept on disk, which makes every later start fast.

Main names: `set_up`, `devices`, `num_cores`, `cache_folder`.
"""

import os
import pathlib

import jax

from meta_train import config as config_lib
from meta_train import processes
from meta_train.errors import UserError


def set_up(config: config_lib.MetaTrainConfig) -> processes.Group:
  """Configures jax and finds the run's other processes.

  Call it before anything computes.

  Args:
    config: the settings of the machine are used.

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
  _set_num_devices(min(config.num_devices, most) or num_cores())
  folder = cache_folder(config.compilation_cache_dir)
  if folder is not None:
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Small programs too: a start consists of many of them.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
  group = processes.join(
    config.coordinator_address, config.num_processes, config.process_id
  )
  devices(config)
  return group


def devices(config: config_lib.MetaTrainConfig) -> list[jax.Device]:
  """Returns the devices to share the tasks among.

  Args:
    config: `num_devices` is used; 0 means all there are.

  Raises:
    UserError: there are fewer devices than asked for.
  """
  found = jax.local_devices()
  if config.num_devices > len(found):
    kind = found[0].platform
    reason = f" (this machine has {num_cores()} cores)" if kind == "cpu" else ""
    raise UserError(
      f"--num_devices={config.num_devices} is more than the {len(found)} "
      f"{kind} device(s) there are{reason}; use 0 for all of them"
    )
  return found[: config.num_devices or len(found)]


def num_cores() -> int:
  """Returns the number of CPU cores this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


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
