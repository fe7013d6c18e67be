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
  list_encodings,
  make_encoding,
)
from flt_lopt.attention.encodings.conv_spe import ConvSpe
from flt_lopt.attention.encodings.flt import Flt
from flt_lopt.attention.encodings.flt_damped import FltDamped
from flt_lopt.attention.encodings.flt_lines import FltLines
from flt_lopt.attention.encodings.flt_local import FltLocal
from flt_lopt.attention.encodings.flt_local_exact import FltLocalExact
from flt_lopt.attention.encodings.hype import Hype
from flt_lopt.attention.encodings.none import NoEncoding
from flt_lopt.attention.encodings.nprf import Nprf
from flt_lopt.attention.encodings.posgu import PosguGqpe, PosguLrpe
from flt_lopt.attention.encodings.rope import Rope
from flt_lopt.attention.encodings.shaw import Shaw
from flt_lopt.attention.encodings.sine_spe import SineSpe

__all__ = [
  "ENCODINGS",
  "Alibi",
  "ConvSpe",
  "Encoding",
  "Flt",
  "FltDamped",
  "FltLines",
  "FltLocal",
  "FltLocalExact",
  "Hype",
  "Mask",
  "NoEncoding",
  "Nprf",
  "Poles",
  "PosguGqpe",
  "PosguLrpe",
  "Rope",
  "Shaw",
  "SineSpe",
  "list_encodings",
  "make_encoding",
]
