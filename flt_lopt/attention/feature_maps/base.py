"""What a feature map is: a positive map given by its logarithm.

Every map phi here is positive, kappa(x, y) = sum_i phi(x)_i phi(y)_i > 0, and
is handed out as log phi. The forms then keep a running maximum per feature,
so no epsilon is needed inside the features and the normaliser is at least 1.

Names: `FeatureMap`, `FEATURE_MAPS`, `make_feature_map`.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import jax
from jaxtyping import Array, Float

from flt_lopt.attention.registry import Registry

Params = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureMap(abc.ABC):
  """A positive feature map for kernels of x . y.

  Args:
    num_heads: number of heads; random maps draw each head independently.
    dim: width of the encoded queries and keys.
    num_features: number of features M.
    seed: seed of the constant random numbers, drawn with numpy.
  """

  num_heads: int
  dim: int
  num_features: int
  seed: int = 0

  name: ClassVar[str]
  # Whether kappa(x, y) estimates exp(x . y) without bias.
  softmax_kernel: ClassVar[bool] = False
  # Whether `redraw` gives fresh random projections.
  random: ClassVar[bool] = False

  def init(self, key: jax.Array) -> Params:
    """Return the learnable parameters; most maps have none."""
    del key
    return {}

  def redraw(self, key: jax.Array) -> Float[Array, "heads features dim"]:
    """Return a fresh projection to pass as `projection`.

    Raises:
      ValueError: this map has no random projection.
    """
    del key
    raise ValueError(
      f"Feature map {self.name!r} has no random projection to redraw; "
      "use 'favor_plus', 'favor_hyperbolic', 'favor_plus_plus' or "
      "'relu'."
    )

  @abc.abstractmethod
  def log_features(
    self,
    params: Params,
    x: Float[Array, "*batch heads length dim"],
    *,
    projection: Float[Array, "heads features dim"] | None = None,
  ) -> Float[Array, "*batch heads length features"]:
    """Return log phi(x).

    Args:
      params: what `init` returned.
      x: encoded queries or keys, already scaled.
      projection: replaces the constant projection, from `redraw`.
    """


FEATURE_MAPS: Registry[FeatureMap] = Registry("feature map")


def make_feature_map(name: str, **options: Any) -> FeatureMap:
  """Build a feature map by its registry name; see `FeatureMap`."""
  return FEATURE_MAPS.make(name, **options)
