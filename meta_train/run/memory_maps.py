"""How many memory maps compiled programs take, and how many there may be.

On a CPU, XLA gives each kernel of a program three memory maps of its own.
Linux lets a process have 65,530 unless told otherwise, and a process that
asks for more is ended with `LLVM ERROR: Unable to allocate section memory`. A
family trained by backpropagation takes about 2,000, by evolution strategies
800. So programs that are not needed for long are dropped when it gets
crowded, and come back from the compilation cache.

Main names: `share_used`, `is_crowded`, `drop`, `advice`.
"""

import gc
import pathlib
from collections.abc import Iterable
from typing import Any

_MAPS = pathlib.Path("/proc/self/maps")
_LIMIT = pathlib.Path("/proc/sys/vm/max_map_count")
#: Share of the maps from which on programs are dropped.
CROWDED = 0.5
#: Share from which on the user is told.
NEARLY_FULL = 0.85


def share_used() -> float:
  """Returns the used share of the memory maps there may be; 0 if unknown."""
  try:
    with _MAPS.open("rb") as lines:
      used = sum(1 for _ in lines)
    return used / int(_LIMIT.read_text())
  except (OSError, ValueError, ZeroDivisionError):
    return 0.0  # Not Linux.


def is_crowded() -> bool:
  """Returns whether programs that can be had again should be dropped."""
  return share_used() > CROWDED


def drop(programs: Iterable[Any]) -> None:
  """Frees compiled programs; the next call has one compiled again.

  Args:
    programs: made by `jax.jit`.
  """
  for program in programs:
    program.clear_cache()
  gc.collect()  # What holds an executable may be in a cycle.


def advice() -> str:
  """Returns a sentence for the user where little is left; else nothing."""
  share = share_used()
  if share <= NEARLY_FULL:
    return ""
  return (
    f"compiled programs take {100 * share:.0f} % of the memory maps that "
    f"this machine allows a process ({_LIMIT.read_text().strip()}), and if "
    "they take all it ends; train on fewer --families, or let root run "
    "`sysctl -w vm.max_map_count=1048576`"
  )
