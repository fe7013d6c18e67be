"""Meta-train, evaluate and export learned optimizers.

`python -m meta_train --task_suite=quick` runs the whole: `flags` and `config`
say what to do, `loop` does it, `run_folder` and `checkpoint` keep it safe.
This file imports nothing heavy, so that the command line can look around
before jax starts.
"""

from meta_train.config import MetaTrainConfig
from meta_train.errors import UserError

__all__ = ["MetaTrainConfig", "UserError"]
