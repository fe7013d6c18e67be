"""Data of the inner problems: sources by name, loaded once, in memory.

`load("digits", "held_out")` returns a `DataSet`, whose `sample` draws
batches inside `jit`. A source is a function from part to data set,
registered by name with `register`; nothing is read before it is used.

Main names: `load`, `list_sources`, `register`, `DataSet`, `ArrayData`.
"""

from tasks.data.base import (
  PARTS,
  ArrayData,
  DataSet,
  index_splits,
  range_splits,
)
from tasks.data.sources import list_sources, load, origin, register

__all__ = [
  "PARTS",
  "ArrayData",
  "DataSet",
  "index_splits",
  "list_sources",
  "load",
  "origin",
  "range_splits",
  "register",
]
