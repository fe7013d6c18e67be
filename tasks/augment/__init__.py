"""Augmentations of tasks and normalisers of losses, composable, by name.

`augment(family, "reparametrize_tensor", "scale_loss")` wraps a family twice;
augmentation objects with other options may stand in place of names.

Main names: `augment`, `AUGMENTATIONS`, the classes below.
"""

from collections.abc import Callable, Mapping

from tasks import names
from tasks.augment.base import Augmentation, AugmentedFamily
from tasks.augment.batches import EffectiveBatchSize, LabelNoise
from tasks.augment.delay import DelayGradient
from tasks.augment.evolution import EvolutionGradient
from tasks.augment.gradients import CastGradient, NoisyGradient
from tasks.augment.initial import ScaleInit
from tasks.augment.loss_scale import ScaleLoss
from tasks.augment.mixture import MixtureFamily
from tasks.augment.normalizers import (
  AdamCurve,
  BaselineCurve,
  ClipLoss,
  RescaleLoss,
  adam_curve,
)
from tasks.augment.reparametrize import Reparametrize
from tasks.augment.subspace import Subspace
from tasks.base import TaskFamily
from tasks.wrapped import WrappedTask

AUGMENTATIONS: Mapping[str, Callable[[], Augmentation]] = {
  "reparametrize_global": lambda: Reparametrize("global"),
  "reparametrize_tensor": lambda: Reparametrize("tensor"),
  "reparametrize_parameter": lambda: Reparametrize("parameter"),
  "scale_loss": ScaleLoss,
  "batch_size": EffectiveBatchSize,
  "label_noise": LabelNoise,
  "bfloat16_gradient": lambda: CastGradient("bfloat16"),
  "float16_gradient": lambda: CastGradient("float16"),
  "noisy_gradient": NoisyGradient,
  "delayed_gradient": DelayGradient,
  "evolution_gradient": EvolutionGradient,
  "scale_init": ScaleInit,
  "subspace": Subspace,
  "baseline_curve": AdamCurve,
}


def augment(
  family: TaskFamily, *augmentations: str | Augmentation
) -> TaskFamily:
  """Wraps a family in augmentations, the first innermost.

  Args:
    family: The family.
    *augmentations: Names in `AUGMENTATIONS`, or augmentations.

  Returns:
    The augmented family.
  """
  for item in augmentations:
    family = AugmentedFamily(
      family, get(item) if isinstance(item, str) else item
    )
  return family


def get(name: str) -> Augmentation:
  """Makes an augmentation with its default options by name."""
  if name not in AUGMENTATIONS:
    raise names.unknown_name("augmentation", name, AUGMENTATIONS)
  return AUGMENTATIONS[name]()


__all__ = [
  "AUGMENTATIONS",
  "AdamCurve",
  "Augmentation",
  "AugmentedFamily",
  "BaselineCurve",
  "CastGradient",
  "ClipLoss",
  "DelayGradient",
  "EffectiveBatchSize",
  "EvolutionGradient",
  "LabelNoise",
  "MixtureFamily",
  "NoisyGradient",
  "Reparametrize",
  "RescaleLoss",
  "ScaleInit",
  "ScaleLoss",
  "Subspace",
  "WrappedTask",
  "adam_curve",
  "augment",
  "get",
]
