"""Relative positional encodings, one file each.

A new encoding is one file here with one registered frozen dataclass, and a
line below; the tests of every identity find it by its registration.
"""

from flt_lopt.attention.encodings.alibi import Alibi
from flt_lopt.attention.encodings.base import (
  ENCODINGS,
  Encoding,
  Mask,
  Poles,
  make_encoding,
)
from flt_lopt.attention.encodings.flt import Flt
from flt_lopt.attention.encodings.flt_lines import FltLines
from flt_lopt.attention.encodings.none import NoEncoding

__all__ = [
  "ENCODINGS",
  "Alibi",
  "Encoding",
  "Flt",
  "FltLines",
  "Mask",
  "NoEncoding",
  "Poles",
  "make_encoding",
]
