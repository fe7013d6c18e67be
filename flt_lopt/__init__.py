"""Learned optimizers with a memory that is a learned Fourier transform."""

from flt_lopt._version import __version__
from flt_lopt.config import OptimizerConfig
from flt_lopt.learned_optimizer import LearnedOptimizer
from flt_lopt.weights import (
  WeightsError,
  list_pretrained,
  load,
  read_provenance,
  save,
)

__all__ = [
  "LearnedOptimizer",
  "OptimizerConfig",
  "WeightsError",
  "__version__",
  "list_pretrained",
  "load",
  "read_provenance",
  "save",
]
