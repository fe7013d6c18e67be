"""What a feature map is: a positive map given by its logarithm.

Every map phi here is positive, kappa(x, y) = sum_i phi(x)_i phi(y)_i > 0, and
is handed out as log phi. The forms then keep a running maximum per feature,
so no epsilon is needed inside the features and the normaliser is at least 1.

Names: `FeatureMap`, `FEATURE_MAPS`, `make_feature_map`,
`log_kernel_from_features`.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
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
  # Whether there are finite features at all.
  finite: ClassVar[bool] = True
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


# Rows of log_kernel_from_features that are done at once.
_ROWS = 16


def log_kernel_from_features(
  log_q: Float[Array, "*batch heads length features"],
  log_k: Float[Array, "*batch heads keys features"],
) -> Float[Array, "*batch heads length keys"]:
  """Return log sum_i exp(log_q_ti + log_k_ji), exactly, pair by pair.

  Each pair has its own maximum, so nothing underflows whatever the scales;
  rows are done in small groups to keep memory at O(keys * features).
  """

  def rows(log_q: Array) -> Array:
    pairs = log_q[..., :, None, :] + log_k[..., None, :, :]
    return jax.nn.logsumexp(pairs, axis=-1)

  length = log_q.shape[-2]
  if length <= _ROWS:
    return rows(log_q)
  padding = -length % _ROWS
  widths = [(0, 0)] * (log_q.ndim - 2) + [(0, padding), (0, 0)]
  groups = jnp.pad(log_q, widths)
  groups = groups.reshape(*log_q.shape[:-2], -1, _ROWS, log_q.shape[-1])
  out = jax.lax.map(rows, jnp.moveaxis(groups, -3, 0))
  out = jnp.moveaxis(out, 0, -3)
  return out.reshape(*out.shape[:-3], -1, out.shape[-1])[..., :length, :]


FEATURE_MAPS: Registry[FeatureMap] = Registry("feature map")


def make_feature_map(name: str, **options: Any) -> FeatureMap:
  """Build a feature map by its registry name; see `FeatureMap`."""
  return FEATURE_MAPS.make(name, **options)
