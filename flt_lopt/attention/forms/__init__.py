"""The forms of attention; each works with any encoding that allows it."""

from flt_lopt.attention.forms.attend import (
  FORMS,
  attend,
  init_attention,
  prefill,
)
from flt_lopt.attention.forms.recurrent import StreamingAttention
from flt_lopt.attention.forms.stream import StreamState
from flt_lopt.attention.forms.window import WindowState

__all__ = [
  "FORMS",
  "StreamState",
  "StreamingAttention",
  "WindowState",
  "attend",
  "init_attention",
  "prefill",
]
