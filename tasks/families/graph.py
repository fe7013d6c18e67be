"""Node classification by graph networks.

Random graphs with communities (the stochastic block model, P. Holland et
al., 1983); a few nodes tell their community, and the network finds those of
the others by passing messages (T. Kipf and M. Welling, "Semi-supervised
classification with graph convolutional networks", 2017, with the residual
mean aggregation of GraphSAGE, W. Hamilton et al., 2017).

Main names: `GraphFamily`.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from tasks import layers, losses, registry
from tasks.base import Aux, Batch, Config, Params, Scalar
from tasks.data.generated import stream_key
from tasks.families.base import ZooFamily


@dataclasses.dataclass(frozen=True, kw_only=True)
class GraphFamily(ZooFamily):
  """Finds communities; parameters `embed`, `round_00` ..., `logits`.

  Attributes:
    num_nodes: Nodes per graph.
    num_communities: Number of communities.
    known_fraction: Probability that a node tells its community.
    inside: Probability of an edge inside of a community.
    across: Probability of an edge between communities.
    hidden: Channels of a node.
    num_rounds: Rounds of messages.
  """

  data: str = "block_model"
  batch_size: int = 8
  num_nodes: int = 24
  num_communities: int = 4
  known_fraction: float = 0.3
  inside: float = 0.5
  across: float = 0.08
  hidden: int = 24
  num_rounds: int = 2

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    keys = jax.random.split(key, 2 * self.num_rounds + 2)
    size = self.hidden
    params: dict[str, Params] = {
      "embed": layers.init_dense(keys[0], self.num_communities + 1, size),
      "logits": layers.init_dense(keys[1], size, self.num_communities),
    }
    for i in range(self.num_rounds):
      params[f"round_{i:02d}"] = {
        "own": layers.init_dense(keys[2 * i + 2], size, size),
        "others": layers.init_dense(keys[2 * i + 3], size, size),
      }
    return params

  def sample_batch(self, cfg: Config, key: PRNGKeyArray, split: str) -> Batch:
    del cfg
    keys = jax.random.split(stream_key(key, self.part, split), 3)
    shape = (self.batch_size, self.num_nodes)
    label = jax.random.randint(keys[0], shape, 0, self.num_communities)
    is_same = label[:, :, None] == label[:, None, :]
    chance = jnp.where(is_same, self.inside, self.across)
    draw = layers.uniform(keys[1], (*shape, self.num_nodes))
    upper = jnp.triu((draw < chance).astype(jnp.float32), 1)
    return {
      "edges": upper + jnp.swapaxes(upper, 1, 2),
      "label": label,
      "is_known": jax.random.bernoulli(keys[2], self.known_fraction, shape),
    }

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    return self.batch_loss_and_aux(cfg, params, key, batch)[0]

  def batch_loss_and_aux(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> tuple[Scalar, Aux]:
    del cfg, key
    is_known, edges = batch["is_known"], batch["edges"]
    hidden_class = jnp.where(is_known, batch["label"], self.num_communities)
    x = jax.nn.one_hot(hidden_class, self.num_communities + 1)
    x = jax.nn.relu(layers.dense(params["embed"], x))
    degree = jnp.maximum(jnp.sum(edges, axis=-1, keepdims=True), 1)
    messages = edges / degree
    for i in range(self.num_rounds):
      layer = params[f"round_{i:02d}"]
      received = layers.dense(layer["others"], messages.astype(x.dtype) @ x)
      x = x + jax.nn.relu(layers.dense(layer["own"], x) + received)
    logits = layers.dense(params["logits"], x)
    unknown = 1.0 - is_known.astype(jnp.float32)
    loss = losses.softmax_cross_entropy(logits, batch["label"], unknown)
    accuracy = losses.accuracy(logits, batch["label"], unknown)
    return loss, {"accuracy": accuracy}

  def loss_ceiling(self) -> float:
    return 1.5 * math.log(self.num_communities)


registry.register("graph_communities_24x2", GraphFamily)
registry.register(
  "graph_communities_32x3",
  GraphFamily,
  hidden=32,
  num_rounds=3,
  num_communities=3,
)
