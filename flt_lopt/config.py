"""The configuration of a learned optimizer: plain data beside its weights.

Everything that changes the shape or the meaning of `theta` is here, and
nothing else: knobs of one training run (`num_steps`, `learning_rate`,
`weight_decay`) belong to `LearnedOptimizer.transform`. Configurations with a
name are in `flt_lopt.variants`.
"""

import dataclasses
from collections.abc import Iterable

from flt_lopt import attention
from flt_lopt import memory as memory_lib
from flt_lopt.attention import registry

#: Version of what the networks see and of how a step follows from theta.
#: Weights are void when it changes, and `load` refuses those of another.
FEATURE_SET = 7

DIRECTIONS = ("direction", "direction_magnitude", "linear", "off")
GEOMETRIES = ("elementwise", "normalized", "orthogonal")
#: Of any network: no weights file may ask for more.
MAX_WIDTH = 256
#: Of `extra_poles`.
MAX_POLES = 64
MAX_GRADIENT_LIMIT = 1e6
TENSOR_ATTENTIONS = ("off", "none", "flt", "flt_lines")
EPSILON_MODES = ("relative", "absolute")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """Describes one learned optimizer.

  Attributes:
    memory: name of the per-parameter memory, see `flt_lopt.memory.MEMORIES`.
    memory_floats: numbers of memory per parameter, the second moment
      included: 2, 4 or 6 for most memories.
    extra_poles: further poles of the memory, on top of `memory_floats`, each
      `("step", beta)`, `("step", beta, frequency)`, `("log", alpha)` or
      `("horizon", alpha)`; see `flt_lopt.memory.parse_pole`.
    first_beta: decay of the first pole on the step, `None` for the bank's
      own; 0.95 is usual with the orthogonal geometry.
    nesterov: whether the first reading looks one step ahead, as in NAdam.
    second_moment: `"whole"`, one float per parameter, or `"factored"` into
      rows and columns where a tensor has two axes or more.
    storage: `"float32"`, or `"bfloat16"` with stochastic rounding.
    direction: what the network per parameter gives: `"direction"`, a
      residual to the nominal direction; `"direction_magnitude"`, a factor
      too; `"linear"`, no network, but a learned combination of the memory's
      readings; or `"off"`, and only the scalars of AdamW are learned.
    hidden_units: width of that network, which runs once per parameter and
      step.
    geometry: `"elementwise"`; `"normalized"`: steps of matrices, stacked
      matrices and convolution kernels have an RMS that their shape sets; or
      `"orthogonal"`: and their direction is orthogonalised; see
      `flt_lopt.geometry`.
    controller: name of the positional encoding of the per-tensor attention
      controller, any of `flt_lopt.attention` that has the form "recurrent";
      `"lstm"`; or `"off"` for no controller (only learned scalars remain).
    controller_heads: attention heads of the controller.
    controller_width: query, key and value width of each head.
    controller_features: FAVOR+ random features of each head.
    tensor_attention: name of the positional encoding of attention across
      tensors, on their depth, fan-in, fan-out and rank, or `"off"`.
    init_learning_rate: step size of the untrained optimizer; it is the value
      at which the learned step size starts. `None`: 0.001, Adam's, or 0.01
      where the size of a matrix's step does not follow the gradient's. It is
      chosen when the configuration is made, and `dataclasses.replace` keeps it.
    epsilon: added to the root of the second moment.
    epsilon_mode: `"relative"`, epsilon is in units of the size of the tensor's
      gradients, so that the loss scale drops out: the larger of the root mean
      second moment after the step before and of the mean absolute gradient of
      this one; or `"absolute"`.
    gradient_limit: largest mean absolute gradient of a tensor, in units of its
      root mean second moment after the step before; larger gradients are
      scaled down to it, at no cost per parameter. `None` is no limit.
  """

  memory: str = "flt_damped"
  memory_floats: int = 4
  extra_poles: tuple[tuple, ...] = ()
  first_beta: float | None = None
  nesterov: bool = False
  second_moment: str = "whole"
  storage: str = "float32"
  direction: str = "direction"
  hidden_units: int = 8
  geometry: str = "elementwise"
  controller: str = "flt"
  controller_heads: int = 2
  controller_width: int = 8
  controller_features: int = 16
  tensor_attention: str = "off"
  init_learning_rate: float = None  # type: ignore[assignment]
  epsilon: float = 1e-8
  epsilon_mode: str = "relative"
  gradient_limit: float | None = None

  def __post_init__(self):
    _check_types(self)
    if self.init_learning_rate is None:
      rate = 0.001 if self.geometry == "elementwise" else 0.01
      object.__setattr__(self, "init_learning_rate", rate)
    if len(self.extra_poles) > MAX_POLES:
      raise ValueError(
        f"extra_poles has {len(self.extra_poles)} poles, and a memory may "
        f"have {MAX_POLES} of them; each costs a number or two per parameter."
      )
    poles = tuple(tuple(pole) for pole in self.extra_poles)
    object.__setattr__(self, "extra_poles", poles)
    streaming = attention.list_encodings(form="recurrent")
    choices: dict[str, Iterable[str]] = {
      "second_moment": memory_lib.SECOND_MOMENTS,
      "storage": memory_lib.STORAGES,
      "direction": DIRECTIONS,
      "geometry": GEOMETRIES,
      "controller": ("off", "lstm", *streaming),
      "tensor_attention": TENSOR_ATTENTIONS,
      "epsilon_mode": EPSILON_MODES,
    }
    for name, valid in choices.items():
      registry.check_choice(name, getattr(self, name), valid)
    for name in (
      "hidden_units",
      "controller_heads",
      "controller_width",
      "controller_features",
    ):
      if not 1 <= getattr(self, name) <= MAX_WIDTH:
        raise ValueError(
          f"{name}={getattr(self, name)} must be from 1 to {MAX_WIDTH}; use "
          "its default."
        )
    for name in ("init_learning_rate", "epsilon"):
      if not getattr(self, name) > 0:
        raise ValueError(
          f"{name}={getattr(self, name)} must be positive; use its default."
        )
    if self.first_beta is not None and not 0.05 <= self.first_beta < 1:
      raise ValueError(
        f"first_beta={self.first_beta} must be in [0.05, 1), or None."
      )
    limit = self.gradient_limit
    if limit is not None and not 1 <= limit <= MAX_GRADIENT_LIMIT:
      raise ValueError(
        f"gradient_limit={limit} must be from 1 to {MAX_GRADIENT_LIMIT:g}, or "
        "None: below 1, gradients of the usual size would be scaled down."
      )
    if self.tensor_attention != "off" and self.controller == "off":
      raise ValueError(
        f"tensor_attention={self.tensor_attention!r} is part of the "
        "controller; choose a controller, or tensor_attention='off'."
      )
    if self.make_memory().nominal not in (-1, 0):
      raise ValueError(
        f"memory={self.memory!r} names reading {self.make_memory().nominal} as "
        "the nominal direction, but that can only be the first reading (0), of "
        "the first mode and float, or the gradient (-1); put it first."
      )
    if self.nesterov and self.make_memory().nominal < 0:
      raise ValueError(
        f"nesterov=True needs a memory to look ahead with, and memory="
        f"{self.memory!r} moves along the gradient; use nesterov=False, or "
        "another memory."
      )
    self.make_storage()

  def make_memory(self) -> memory_lib.Memory:
    """Returns the memory of the gradient."""
    return memory_lib.make_memory(
      self.memory,
      self.memory_floats,
      self.extra_poles,
      first_beta=self.first_beta,
    )

  def make_storage(self) -> memory_lib.Storage:
    """Returns how the memory is stored."""
    poles = getattr(self.make_memory(), "poles", ())
    return memory_lib.make_storage(self.storage, poles)

  def make_second_moment(self):
    """Returns the form of the second moment."""
    return memory_lib.make_second_moment(self.second_moment)

  @property
  def has_network(self) -> bool:
    """Whether there is a network per parameter."""
    return self.direction in ("direction", "direction_magnitude")

  @property
  def state_floats(self) -> int:
    """Numbers of state per parameter of a matrix; O(rows + columns) aside."""
    second = self.make_second_moment().num_floats
    return self.make_memory().num_floats + second


def _check_types(config: OptimizerConfig) -> None:
  """Refuses a field whose value is of another type than its default.

  Numbers that are equal, such as 4.0 and 4, are not the same to whoever
  reads a configuration, and a flag of 2.5 means nothing.
  """
  for field in dataclasses.fields(config):
    value = getattr(config, field.name)
    if field.default is None and value is None:
      continue
    kind, rule = {
      bool: (bool, "True or False"),
      int: (int, "a whole number"),
      str: (str, "a text"),
      tuple: (list | tuple, "a list of poles"),
    }.get(type(field.default), (int | float, "a number"))
    if not isinstance(value, kind) or (
      isinstance(value, bool) and kind is not bool
    ):
      raise ValueError(f"{field.name}={value!r} must be {rule}.")
