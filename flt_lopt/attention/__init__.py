"""Linear attention with relative positional encodings, streaming included.

Usable alone: it knows nothing of optimizers.
"""

from flt_lopt.attention.encodings import (
  ENCODINGS,
  Encoding,
  Mask,
  Poles,
  make_encoding,
)
from flt_lopt.attention.feature_maps import (
  FEATURE_MAPS,
  FeatureMap,
  make_feature_map,
)
from flt_lopt.attention.forms.recurrent import StreamingAttention, StreamState

__all__ = [
  "ENCODINGS",
  "FEATURE_MAPS",
  "Encoding",
  "FeatureMap",
  "Mask",
  "Poles",
  "StreamState",
  "StreamingAttention",
  "make_encoding",
  "make_feature_map",
]
