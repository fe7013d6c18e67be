"""Language models by causal transformers.

With softmax attention and learned positions, after A. Radford et al.,
"Language models are unsupervised multitask learners" (2019); or Performers,
whose only knowledge of order is the relative positional encoding: the
learned Fourier transform (FLT, K. Choromanski et al., 2023), the Toeplitz
table (NPRF, S. Luo et al., 2021), sines (SPE, A. Liutkus et al., 2021), or
none.

Main names: `TransformerLMFamily`.
"""

import dataclasses

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import layers, registry
from tasks.base import Batch, Config, Params
from tasks.families.sequences import SequenceFamily
from tasks.transformer import SOFTMAX, Transformer


@dataclasses.dataclass(frozen=True, kw_only=True)
class TransformerLMFamily(SequenceFamily):
  """Predicts the next token.

  Parameters are `embed`, `blocks`, `logits`, and `positions` [length, width]
  with softmax attention.

  Attributes:
    width: Channels of a token.
    num_blocks: Number of blocks.
    num_heads: Number of heads.
    attention: `"softmax"`, or an encoding of `flt_lopt.attention`.
  """

  batch_size: int = 8
  width: int = 32
  num_blocks: int = 2
  num_heads: int = 2
  attention: str = SOFTMAX

  def _blocks(self) -> Transformer:
    return Transformer(
      width=self.width,
      num_blocks=self.num_blocks,
      num_heads=self.num_heads,
      attention=self.attention,
      is_causal=True,
    )

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    keys = jax.random.split(key, 4)
    vocabulary = self.data_set.num_classes
    params = {
      "embed": layers.variance_scaled(
        keys[0], (vocabulary, self.width), scale=0.5, fan_in=1
      ),
      "blocks": self._blocks().init(keys[1]),
      "logits": layers.init_dense(keys[2], self.width, vocabulary),
    }
    if self.attention == SOFTMAX:
      params["positions"] = layers.variance_scaled(
        keys[3], (self.length, self.width), scale=0.1, fan_in=1
      )
    return params

  def logits(
    self, params: Params, batch: Batch, key: PRNGKeyArray
  ) -> Float[Array, "batch length vocabulary"]:
    del key
    x = layers.embed(params["embed"], batch["obs"])
    if self.attention == SOFTMAX:
      x = x + params["positions"]
    return layers.dense(params["logits"], self._blocks()(params["blocks"], x))


def _register(name: str, data: str, **options) -> None:
  registry.register(name, TransformerLMFamily, data=data, **options)


_register("transformer_modular", "modular", batch_size=16)
_register("transformer_recall", "recall", width=24, batch_size=16)
_register(
  "transformer_recall_16x1", "recall", width=16, num_blocks=1, length=16
)
_register("transformer_dyck_1", "dyck", num_blocks=1, batch_size=16)
_register("transformer_topics", "python_topics")
_register("transformer_source_3", "python_source", num_blocks=3, num_heads=4)
_register("transformer_topics_bpe", "python_topics_bpe", width=40)
_register("performer_flt_recall", "recall", attention="flt")
_register("performer_flt_topics", "python_topics", attention="flt", num_heads=4)
_register("performer_nprf_topics", "python_topics", attention="nprf")
_register("performer_spe_source", "python_source", attention="sine_spe")
_register("performer_none_source", "python_source", attention="none")
