"""The configuration of a learned optimizer: plain data beside its weights.

Everything that changes the shape or the meaning of `theta` is here, and
nothing else: knobs of one training run (`num_steps`, `learning_rate`,
`weight_decay`) belong to `LearnedOptimizer.transform`.
"""

import dataclasses

from flt_lopt import attention, memory
from flt_lopt.attention import registry

#: Version of the inputs that the networks see. Weights are void when it
#: changes, and `load` refuses those of another version.
FEATURE_SET = 1


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """Describes one learned optimizer.

  Attributes:
    memory: name of the per-parameter memory, see `flt_lopt.memory.MEMORIES`.
    memory_floats: float32 numbers of memory per parameter: 2, 4 or 6.
    hidden_units: width of the direction network, which runs once per
      parameter and step.
    controller: name of the positional encoding of the per-tensor attention
      controller, any of `flt_lopt.attention` that has the form "recurrent",
      or `"off"` for no controller at all (only learned scalars remain).
    controller_heads: attention heads of the controller.
    controller_width: query, key and value width of each head.
    controller_features: FAVOR+ random features of each head.
    init_learning_rate: step size of the untrained optimizer; it is the value
      at which the learned step size starts.
    epsilon: added to the root of the second moment.
    epsilon_mode: `"relative"`, epsilon is in units of the tensor's root mean
      second moment, so that the loss scale drops out; or `"absolute"`.
  """

  memory: str = "flt_damped"
  memory_floats: int = 4
  hidden_units: int = 8
  controller: str = "flt"
  controller_heads: int = 2
  controller_width: int = 8
  controller_features: int = 16
  init_learning_rate: float = 1e-3
  epsilon: float = 1e-8
  epsilon_mode: str = "relative"

  def __post_init__(self):
    registry.check_choice("memory", self.memory, memory.MEMORIES)
    streaming = attention.list_encodings(form="recurrent")
    registry.check_choice("controller", self.controller, ("off", *streaming))
    registry.check_choice("memory_floats", self.memory_floats, (2, 4, 6))
    registry.check_choice(
      "epsilon_mode", self.epsilon_mode, ("relative", "absolute")
    )
    for name in (
      "hidden_units",
      "controller_heads",
      "controller_width",
      "controller_features",
    ):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name}={getattr(self, name)} must be at least 1; use its default."
        )
    for name in ("init_learning_rate", "epsilon"):
      if not getattr(self, name) > 0:
        raise ValueError(
          f"{name}={getattr(self, name)} must be positive; use its default."
        )
