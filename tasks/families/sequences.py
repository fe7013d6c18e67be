"""What all language models of the zoo share.

Main names: `SequenceFamily`.
"""

import abc
import dataclasses
import math
from typing import ClassVar

from jaxtyping import Array, Float, PRNGKeyArray

from tasks import losses
from tasks.base import Aux, Batch, Config, Params, Scalar
from tasks.data.base import SequenceData
from tasks.families.base import ZooFamily


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequenceFamily(ZooFamily):
  """Predicts the next token; abstract.

  The loss is the mean cross-entropy in nats per token, over those tokens
  that the batch's `weight`, where there is one, does not exclude.

  Attributes:
    length: Tokens per sequence.
  """

  length: int = 32

  not_architecture: ClassVar[frozenset[str]] = frozenset({"length"})

  @abc.abstractmethod
  def logits(
    self, params: Params, batch: Batch, key: PRNGKeyArray
  ) -> Float[Array, "batch length vocabulary"]:
    """Applies the model to `batch["obs"]`."""

  def sample_batch(self, cfg: Config, key: PRNGKeyArray, split: str) -> Batch:
    del cfg
    source = self.data_set
    assert isinstance(source, SequenceData)
    return source.sample(key, split, self.batch_size, self.length)

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    return self.batch_loss_and_aux(cfg, params, key, batch)[0]

  def batch_loss_and_aux(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> tuple[Scalar, Aux]:
    del cfg
    logits = self.logits(params, batch, key)
    known = (batch["target"], batch.get("weight"))
    loss = losses.softmax_cross_entropy(logits, *known)
    return loss, {"accuracy": losses.accuracy(logits, *known)}

  def loss_ceiling(self) -> float:
    return 1.5 * math.log(self.data_set.num_classes)
