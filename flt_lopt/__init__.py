"""Learned optimizers whose memory is a learned Fourier transform over time.

`flt` stands where `optax.adam` stood. `LearnedOptimizer` is the family of
optimizers behind it, which `meta_train` trains; `flt_lopt.attention` is its
attention library, usable alone.
"""

from flt_lopt._version import __version__
from flt_lopt.alias import flt, scale_by_flt
from flt_lopt.config import OptimizerConfig
from flt_lopt.learned_optimizer import LearnedOptimizer
from flt_lopt.transform import FltState
from flt_lopt.variants import list_variants, make_variant
from flt_lopt.weights import (
  WeightsError,
  list_pretrained,
  load,
  read_provenance,
  save,
)

__all__ = [
  "FltState",
  "LearnedOptimizer",
  "OptimizerConfig",
  "WeightsError",
  "__version__",
  "flt",
  "list_pretrained",
  "list_variants",
  "load",
  "make_variant",
  "read_provenance",
  "save",
  "scale_by_flt",
]
