"""The memory of each parameter: attention over the gradients of its past.

Start with `make_memory`. A memory holds the gradient; the second moment that
it is divided by is kept beside it (`second_moment`), and both may be stored
in bfloat16 (`storage`).
"""

from flt_lopt.memory.banks import MEMORIES, make_memory, nearest_size
from flt_lopt.memory.base import Coefficients, Memory
from flt_lopt.memory.poles import Pole, ema, parse_pole
from flt_lopt.memory.second_moment import SECOND_MOMENTS, make_second_moment
from flt_lopt.memory.storage import STORAGES, Storage, make_storage

__all__ = [
  "MEMORIES",
  "SECOND_MOMENTS",
  "STORAGES",
  "Coefficients",
  "Memory",
  "Pole",
  "Storage",
  "ema",
  "make_memory",
  "make_second_moment",
  "make_storage",
  "nearest_size",
  "parse_pole",
]
