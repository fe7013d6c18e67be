"""Learned optimizers with a memory that is a learned Fourier transform."""

from flt_lopt._version import __version__
from flt_lopt.config import OptimizerConfig
from flt_lopt.learned_optimizer import LearnedOptimizer

__all__ = ["LearnedOptimizer", "OptimizerConfig", "__version__"]
