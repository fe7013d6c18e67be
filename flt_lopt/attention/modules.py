"""Haiku modules: linear attention, a Performer block, PosMLP's gating unit.

Names: `LinearAttention`, `Performer`, `PosGU`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from flt_lopt.attention.encodings import Encoding, make_encoding
from flt_lopt.attention.encodings.base import Params
from flt_lopt.attention.feature_maps import FeatureMap
from flt_lopt.attention.forms import attend, init_attention


def _learned(
  encoding: Encoding,
  feature_map: str | FeatureMap,
  num_features: int | None,
) -> Params:
  """Declare the parameters of attention as Haiku parameters."""

  def init(key: jax.Array) -> Params:
    return init_attention(
      key,
      encoding,
      feature_map=feature_map,
      num_features=num_features,
    )

  shapes = jax.eval_shape(init, jax.random.key(0))
  values = init(hk.next_rng_key()) if hk.running_init() else shapes
  leaves, tree = jax.tree.flatten_with_path(shapes)
  names = ["_".join(str(entry.key) for entry in path) for path, _ in leaves]
  params = [
    hk.get_parameter(
      name, shape.shape, shape.dtype, init=lambda *_, value=value: value
    )
    for name, (_, shape), value in zip(names, leaves, jax.tree.leaves(values))
  ]
  return jax.tree.unflatten(tree, params)


class LinearAttention(hk.Module):
  """Multi-head self-attention in linear time.

  Args:
    num_heads: number of heads.
    head_dim: width of a head's queries, keys and values.
    encoding: a registry name, or an encoding for these heads.
    feature_map: a registry name or a feature map.
    num_features: features per head, if `feature_map` is a name.
    form: see `attend`.
    causal: whether a token sees only itself and the past.
    encoding_options: options for `encoding`, if it is a name.
    w_init: initialiser of the projections.
    name: of the module.
  """

  def __init__(
    self,
    *,
    num_heads: int,
    head_dim: int,
    encoding: str | Encoding = "flt_lines",
    feature_map: str | FeatureMap = "favor_plus",
    num_features: int | None = 64,
    form: str = "auto",
    causal: bool = False,
    encoding_options: Mapping[str, Any] | None = None,
    w_init: hk.initializers.Initializer | None = None,
    name: str | None = None,
  ):
    super().__init__(name=name)
    if isinstance(encoding, str):
      encoding = make_encoding(
        encoding,
        num_heads=num_heads,
        head_dim=head_dim,
        **(encoding_options or {}),
      )
    self.encoding = encoding
    self.num_heads, self.head_dim = num_heads, head_dim
    self.feature_map, self.num_features = feature_map, num_features
    self.form, self.causal = form, causal
    self.w_init = w_init or hk.initializers.VarianceScaling()

  def __call__(
    self,
    x: Float[Array, "*batch length width"],
    *,
    positions: Num[Array, "..."] | None = None,
    key_mask: Bool[Array, "*batch length"] | None = None,
  ) -> Float[Array, "*batch length width"]:
    """Attend.

    Args:
      x: tokens.
      positions: see `attend`.
      key_mask: `False` for padding.
    """
    inner = self.num_heads * self.head_dim
    split = (*x.shape[:-1], self.num_heads, self.head_dim)

    def heads(name: str) -> Array:
      linear = hk.Linear(inner, w_init=self.w_init, name=name)
      return linear(x).reshape(split)

    params = _learned(self.encoding, self.feature_map, self.num_features)
    out = attend(
      params,
      heads("query"),
      heads("key"),
      heads("value"),
      encoding=self.encoding,
      form=self.form,
      causal=self.causal,
      positions=positions,
      key_mask=key_mask,
      feature_map=self.feature_map,
      num_features=self.num_features,
    )
    output = hk.Linear(x.shape[-1], w_init=self.w_init, name="output")
    return output(out.reshape(*x.shape[:-1], inner))


class Performer(hk.Module):
  """A pre-norm transformer block around `LinearAttention`.

  Args:
    num_heads: number of heads.
    head_dim: width of a head.
    causal: whether a token sees only itself and the past.
    widening: hidden width of the MLP over the width of the tokens.
    name: of the module.
    **attention: further arguments of `LinearAttention`.
  """

  def __init__(
    self,
    *,
    num_heads: int,
    head_dim: int,
    causal: bool = False,
    widening: int = 4,
    name: str | None = None,
    **attention: Any,
  ):
    super().__init__(name=name)
    self.attention: dict[str, Any] = {
      "num_heads": num_heads,
      "head_dim": head_dim,
      "causal": causal,
      **attention,
    }
    self.widening = widening

  def __call__(
    self,
    x: Float[Array, "*batch length width"],
    *,
    positions: Num[Array, "..."] | None = None,
    key_mask: Bool[Array, "*batch length"] | None = None,
  ) -> Float[Array, "*batch length width"]:
    """Apply attention and MLP, each with a residual connection.

    Args:
      x: tokens.
      positions: see `attend`.
      key_mask: `False` for padding.
    """
    width = x.shape[-1]
    attention = LinearAttention(**self.attention, name="attention")
    x = x + attention(
      _norm(x, "norm_attention"),
      positions=positions,
      key_mask=key_mask,
    )
    hidden = hk.Linear(self.widening * width, name="mlp_in")
    output = hk.Linear(width, name="mlp_out")
    return x + output(jax.nn.gelu(hidden(_norm(x, "norm_mlp"))))


def _norm(x: Array, name: str) -> Array:
  return hk.LayerNorm(
    axis=-1, create_scale=True, create_offset=True, name=name
  )(x)


class PosGU(hk.Module):
  """PosMLP's gating unit: out = (W u + b) * v.

  u and v are the two halves of the channels; W mixes tokens by position
  alone, one W per group of channels.

  Args:
    num_groups: number of groups s; must divide half of the width.
    encoding: "posgu" (Gaussian) or "posgu_lrpe" (free table).
    causal: whether a token sees only itself and the past.
    encoding_options: options of the encoding.
    name: of the module.
  """

  def __init__(
    self,
    *,
    num_groups: int,
    encoding: str = "posgu",
    causal: bool = False,
    encoding_options: Mapping[str, Any] | None = None,
    name: str | None = None,
  ):
    super().__init__(name=name)
    self.encoding = make_encoding(
      encoding,
      num_heads=num_groups,
      head_dim=1,
      **(encoding_options or {}),
    )
    self.num_groups, self.causal = num_groups, causal

  def __call__(
    self, x: Float[Array, "*batch length width"]
  ) -> Float[Array, "*batch length half"]:
    """Mix tokens and gate.

    Raises:
      ValueError: half of the width can't be cut into the groups.
    """
    half, rest = divmod(x.shape[-1], 2)
    if rest or half % self.num_groups:
      raise ValueError(
        f"width {x.shape[-1]} must be an even multiple of "
        f"num_groups={self.num_groups}."
      )
    u, v = jnp.split(x, 2, axis=-1)
    params = _learned(self.encoding, "constant", 1)
    values = u.reshape(*u.shape[:-1], self.num_groups, -1)
    empty = jnp.ones((*values.shape[:-1], 1), x.dtype)
    mixed = attend(
      params,
      empty,
      empty,
      values,
      encoding=self.encoding,
      causal=self.causal,
      form="parallel",
      feature_map="constant",
      num_features=1,
    )
    offset = hk.get_parameter(
      "offset", (x.shape[-2], 1), x.dtype, init=jnp.ones
    )
    return (mixed.reshape(u.shape) + offset) * v
