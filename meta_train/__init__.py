"""Meta-train, evaluate and export learned optimizers.

`python -m meta_train --task_suite=quick` runs the whole. Where things are:

    command/     flags, exit codes, signals
    config.py    the settings; configs/ has the recipes
    engine/      unrolls of inner training, the outer step, objectives
    estimators/  gradient estimators, one file each
    run/         the loop of a run, its folder, checkpoints and validation
    evaluation/  optimizers on tasks: baselines, measures, scores
    reports/     tables, pictures, pages

and one file for each program beside it: `evaluate`, `make_baselines`, `report`,
`publish`. This file imports nothing heavy, so that the command line can look
around before jax starts.
"""

from meta_train.config import MetaTrainConfig
from meta_train.errors import UserError

__all__ = ["MetaTrainConfig", "UserError"]
