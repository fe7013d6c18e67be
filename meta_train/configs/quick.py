"""The quick recipe: small MLPs on handwritten digits, about two minutes.

    python -m meta_train --task_suite=quick

700 outer steps of 3,200 inner steps, then an evaluation on a held-out MLP
against tuned Adam.
"""

from meta_train.config import MetaTrainConfig

CONFIG = MetaTrainConfig(task_suite="quick")
