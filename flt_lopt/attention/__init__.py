"""Linear attention with relative positional encodings, streaming included.

Usable alone: it knows nothing of optimizers. Start with `make_encoding` and
`attend`, or `StreamingAttention` for one token at a time.
"""

from flt_lopt.attention.encodings import (
  ENCODINGS,
  Encoding,
  Mask,
  Poles,
  list_encodings,
  make_encoding,
)
from flt_lopt.attention.feature_maps import (
  FEATURE_MAPS,
  FeatureMap,
  make_feature_map,
)
from flt_lopt.attention.fit import PoleFit, fit_poles
from flt_lopt.attention.forms import (
  FORMS,
  StreamingAttention,
  StreamState,
  WindowState,
  attend,
  init_attention,
  prefill,
)
from flt_lopt.attention.modules import LinearAttention, Performer, PosGU

__all__ = [
  "ENCODINGS",
  "FEATURE_MAPS",
  "FORMS",
  "Encoding",
  "FeatureMap",
  "LinearAttention",
  "Mask",
  "Performer",
  "PoleFit",
  "Poles",
  "PosGU",
  "StreamState",
  "StreamingAttention",
  "WindowState",
  "attend",
  "fit_poles",
  "init_attention",
  "list_encodings",
  "make_encoding",
  "make_feature_map",
  "prefill",
]
