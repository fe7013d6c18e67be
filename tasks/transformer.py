"""Transformer blocks as pure functions, by softmax or linear attention.

Pre-norm blocks (R. Xiong et al., "On layer normalization in the transformer
architecture", 2020). Linear attention is the Performer (K. Choromanski et
al., "Rethinking attention with Performers", 2021) with a relative positional
encoding of `flt_lopt.attention`, such as the learned Fourier transform of
the FourierLearner-Transformer (K. Choromanski et al., 2023).

Main names: `Transformer`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from flt_lopt import attention as attention_lib
from tasks import layers
from tasks.base import Params

Tokens = Float[Array, "batch length width"]
SOFTMAX = "softmax"


@dataclasses.dataclass(frozen=True)
class Transformer:
  """A stack of blocks.

  Attributes:
    width: Channels of a token.
    num_blocks: Number of blocks.
    num_heads: Number of heads; divides the width.
    attention: `"softmax"`, or the name of an encoding of `flt_lopt.attention`
      for linear attention.
    is_causal: Whether tokens see only themselves and the past.
    coord_dim: Coordinates of a position, for linear attention.
    num_features: Random features per head, for linear attention.
    widening: Width of the MLP's hidden layer over that of the tokens.
  """

  width: int = 32
  num_blocks: int = 2
  num_heads: int = 2
  attention: str = SOFTMAX
  is_causal: bool = False
  coord_dim: int = 1
  num_features: int = 16
  widening: int = 2

  def __post_init__(self):
    if self.width % self.num_heads:
      raise ValueError(
        f"num_heads={self.num_heads} must divide width={self.width}."
      )

  def _encoding(self) -> attention_lib.Encoding:
    options = {} if self.coord_dim == 1 else {"coord_dim": self.coord_dim}
    return attention_lib.make_encoding(
      self.attention,
      num_heads=self.num_heads,
      head_dim=self.width // self.num_heads,
      **options,
    )

  def init(self, key: PRNGKeyArray) -> Params:
    """Samples parameters `block_00` ... and the last `norm`."""
    keys = jax.random.split(key, self.num_blocks)
    blocks = {f"block_{i:02d}": self._init_block(k) for i, k in enumerate(keys)}
    return blocks | {"norm": layers.init_norm(self.width)}

  def _init_block(self, key: PRNGKeyArray) -> Params:
    keys = jax.random.split(key, 5)
    width, hidden = self.width, self.widening * self.width
    block = {
      "heads": layers.init_dense(keys[0], width, 3 * width),
      # Residual branches start small where there are many of them.
      "output": layers.init_dense(
        keys[1], width, width, scale=0.5 / self.num_blocks
      ),
      "mlp_in": layers.init_dense(keys[2], width, hidden),
      "mlp_out": layers.init_dense(
        keys[3], hidden, width, scale=0.5 / self.num_blocks
      ),
      "norm_attention": layers.init_norm(width),
      "norm_mlp": layers.init_norm(width),
    }
    if self.attention != SOFTMAX:
      block["encoding"] = attention_lib.init_attention(
        keys[4],
        self._encoding(),
        feature_map="favor_plus",
        num_features=self.num_features,
      )
    return block

  def __call__(
    self, params: Params, x: Tokens, positions: Array | None = None
  ) -> Tokens:
    """Applies all blocks and the last normalisation.

    Args:
      params: Parameters.
      x: Tokens.
      positions: Coordinates [length, coord_dim] or [batch, length,
        coord_dim] for linear attention; `None` for 0, 1, 2, ....
    """
    for i in range(self.num_blocks):
      block = params[f"block_{i:02d}"]
      normed = layers.layer_norm(block["norm_attention"], x)
      mixed = self._attend(block, normed, positions)
      x = x + layers.dense(block["output"], mixed)
      normed = layers.layer_norm(block["norm_mlp"], x)
      hidden = jax.nn.gelu(layers.dense(block["mlp_in"], normed))
      x = x + layers.dense(block["mlp_out"], hidden)
    return layers.layer_norm(params["norm"], x)

  def _attend(
    self, block: Params, x: Tokens, positions: Array | None
  ) -> Tokens:
    heads = layers.dense(block["heads"], x)
    split = heads.reshape(*x.shape[:2], self.num_heads, 3, -1)
    query, key, value = (split[..., i, :] for i in range(3))
    if self.attention == SOFTMAX:
      out = softmax_attention(query, key, value, is_causal=self.is_causal)
    else:
      # Feature sums and transforms want float32 whatever the parameters are.
      encoding, query, key, value = jax.tree.map(
        lambda z: z.astype(jnp.float32),
        (block["encoding"], query, key, value),
      )
      out = attention_lib.attend(
        encoding,
        query,
        key,
        value,
        encoding=self._encoding(),
        causal=self.is_causal,
        positions=positions,
        feature_map="favor_plus",
        num_features=self.num_features,
      )
    return out.reshape(x.shape).astype(x.dtype)


def softmax_attention(
  query: Float[Array, "batch length heads dim"],
  key: Float[Array, "batch length heads dim"],
  value: Float[Array, "batch length heads dim"],
  *,
  is_causal: bool,
) -> Float[Array, "batch length heads dim"]:
  """Attends by the softmax of scaled products (A. Vaswani et al., 2017)."""
  scores = jnp.einsum("blhd,bmhd->bhlm", query, key).astype(jnp.float32)
  scores = scores / query.shape[-1] ** 0.5
  if is_causal:
    length = query.shape[1]
    is_past = jnp.tril(jnp.ones((length, length), bool))
    scores = jnp.where(is_past, scores, -1e9)
  weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
  return jnp.einsum("bhlm,bmhd->blhd", weights, value)
