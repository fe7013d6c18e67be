"""No positional encoding: plain kernel attention.

Names: `NoEncoding`.
"""

from __future__ import annotations

import dataclasses

from flt_lopt.attention.encodings.base import ENCODINGS, Encoding


@ENCODINGS.register("none")
@dataclasses.dataclass(frozen=True, kw_only=True)
class NoEncoding(Encoding):
  """A_tj = exp(q_t . k_j / sqrt(D))."""
