"""What all classifiers of images and vectors share.

Main names: `ClassifierFamily`.
"""

import abc
import dataclasses
import math

from jaxtyping import Array, Float, PRNGKeyArray

from tasks import losses
from tasks.base import Aux, Batch, Config, Params, Scalar
from tasks.families.base import ZooFamily


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassifierFamily(ZooFamily):
  """Finds the `label` of each example; abstract.

  The loss is the mean cross-entropy in nats.
  """

  @abc.abstractmethod
  def logits(
    self, params: Params, batch: Batch
  ) -> Float[Array, "batch classes"]:
    """Applies the model."""

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    del cfg, key
    return losses.softmax_cross_entropy(
      self.logits(params, batch), batch["label"]
    )

  def batch_loss_and_aux(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> tuple[Scalar, Aux]:
    del cfg, key
    logits = self.logits(params, batch)
    loss = losses.softmax_cross_entropy(logits, batch["label"])
    return loss, {"accuracy": losses.accuracy(logits, batch["label"])}

  def loss_ceiling(self) -> float:
    return 1.5 * math.log(self.data_set.num_classes)
