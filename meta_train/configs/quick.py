"""The quick recipe: small MLPs on handwritten digits, about two minutes."""

from meta_train.config import MetaTrainConfig

CONFIG = MetaTrainConfig(task_suite="quick")
