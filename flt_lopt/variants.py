"""The optimizer's variants by name, each one change from the default.

They are what ablations compare and what tests run over: to register a variant
is to test it against its optax reference, the optax contract and the rest.

Main names: `VARIANTS`, `list_variants`, `make_variant`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from flt_lopt import memory
from flt_lopt.attention import registry
from flt_lopt.config import OptimizerConfig


class Variant(NamedTuple):
  """A named change of the default configuration."""

  summary: str
  changes: Mapping[str, Any]


VARIANTS: Mapping[str, Variant] = {
  "flt_damped": Variant("the default: a damped Fourier memory", {}),
  "flt_damped_2": Variant("two floats per parameter", {"memory_floats": 2}),
  "flt_damped_6": Variant("six floats per parameter", {"memory_floats": 6}),
  "flt": Variant("an undamped Fourier memory", {"memory": "flt"}),
  "ema": Variant("a fixed bank of averages", {"memory": "ema"}),
  "discount": Variant(
    "learned exponential discounts, never gated", {"memory": "discount"}
  ),
  "keys": Variant("keys per parameter (FAVOR+)", {"memory": "keys"}),
  "none": Variant(
    "no memory of the gradient", {"memory": "none", "memory_floats": 1}
  ),
  "further_poles": Variant(
    "six floats, with poles in log(1 + t) and t / T",
    {"extra_poles": (("log", 1.0), ("horizon", 5.0))},
  ),
  "factored": Variant(
    "the second moment from rows and columns", {"second_moment": "factored"}
  ),
  "magnitude": Variant(
    "a magnitude per parameter beside the direction",
    {"direction": "direction_magnitude"},
  ),
  "linear": Variant(
    "a learned combination of the memory's readings, and no network",
    {"direction": "linear"},
  ),
  "normalized": Variant(
    "steps along matrices of a size that follows their shape",
    {"geometry": "normalized"},
  ),
  "orthogonal": Variant(
    "orthogonalised steps for matrices, as in Muon",
    {"geometry": "orthogonal", "first_beta": 0.95, "nesterov": True},
  ),
  "no_controller": Variant("no controller", {"controller": "off"}),
  "controller_none": Variant(
    "a controller whose attention knows no time", {"controller": "none"}
  ),
  "lstm": Variant("an LSTM as controller", {"controller": "lstm"}),
  "tensor_attention": Variant(
    "attention across tensors too, with geometric FLT",
    {"tensor_attention": "flt"},
  ),
  "adamw_scalars": Variant(
    "nothing but AdamW's own scalars is learned",
    {
      "memory": "discount",
      "memory_floats": 2,
      "direction": "off",
      "controller": "off",
    },
  ),
}


def list_variants() -> tuple[str, ...]:
  """Returns all names."""
  return tuple(VARIANTS)


def make_variant(name: str, **changes: Any) -> OptimizerConfig:
  """Returns the configuration of a variant.

  Args:
    name: one of `list_variants()`.
    **changes: fields of `OptimizerConfig` to change on top. A memory that is
      changed alone has the size nearest to the variant's.

  Raises:
    ValueError: an unknown name, or a configuration that can't be.

  Example:
    >>> lopt = LearnedOptimizer(make_variant("flt_damped_6"))
  """
  registry.check_choice("variant", name, VARIANTS)
  fields = {**VARIANTS[name].changes, **changes}
  if "memory" in changes and "memory_floats" not in changes:
    floats = fields.get("memory_floats", OptimizerConfig.memory_floats)
    fields["memory_floats"] = memory.nearest_size(fields["memory"], floats)
  return OptimizerConfig(**fields)
