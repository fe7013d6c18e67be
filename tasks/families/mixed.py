"""Two tasks at once: classify digits and compress them, in one step.

Parameters and losses of different kinds meet in one optimizer step, as in
multi-task learning (R. Caruana, "Multitask learning", 1997); members differ
in the weights of the two losses.

Main names: `digits_twice`.
"""

from tasks import registry
from tasks.augment.mixture import MixtureFamily
from tasks.families.autoencoder import AutoencoderFamily
from tasks.families.mlp import MLPFamily


def digits_twice(name: str, part: str) -> MixtureFamily:
  """Makes a tanh classifier and a bottleneck autoencoder of digits."""
  return MixtureFamily(
    [
      MLPFamily(part=part, hidden=(40, 40), activation="tanh"),
      AutoencoderFamily(part=part, hidden=(40, 10, 40), activation="silu"),
    ],
    name=name,
  )


registry.register("mixed_digits", digits_twice)
