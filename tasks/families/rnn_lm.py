"""Language models by recurrent networks.

Three cells: Elman's (J. Elman, "Finding structure in time", 1990), the LSTM
(S. Hochreiter and J. Schmidhuber, 1997, with the forget gate of F. Gers et
al., 2000) and the GRU (K. Cho et al., 2014). Inputs and outputs share no
weights.

Main names: `RNNLMFamily`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import layers, names, registry
from tasks.base import Batch, Config, Params
from tasks.families.sequences import SequenceFamily

Hidden = Float[Array, "batch hidden"]
Gates = Float[Array, "batch gates"]


def _elman(gates: Gates, recurrent: Gates, state: tuple) -> tuple:
  del state
  return (jnp.tanh(gates + recurrent),)


def _lstm(gates: Gates, recurrent: Gates, state: tuple) -> tuple:
  _, cell = state
  i, f, g, o = jnp.split(gates + recurrent, 4, axis=-1)
  # One more for the forget gate: it starts open (Jozefowicz et al., 2015).
  cell = jax.nn.sigmoid(f + 1) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
  return jax.nn.sigmoid(o) * jnp.tanh(cell), cell


def _gru(gates: Gates, recurrent: Gates, state: tuple) -> tuple:
  (hidden,) = state
  z, r, n = jnp.split(gates, 3, axis=-1)
  z_h, r_h, n_h = jnp.split(recurrent, 3, axis=-1)
  candidate = jnp.tanh(n + jax.nn.sigmoid(r + r_h) * n_h)
  keep = jax.nn.sigmoid(z + z_h)
  return (keep * hidden + (1 - keep) * candidate,)


class Cell(NamedTuple):
  """A cell: its step, number of gates and number of state vectors."""

  step: Callable[[Gates, Gates, tuple], tuple]
  num_gates: int
  num_states: int


CELLS: Mapping[str, Cell] = {
  "elman": Cell(_elman, 1, 1),
  "lstm": Cell(_lstm, 4, 2),
  "gru": Cell(_gru, 3, 1),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RNNLMFamily(SequenceFamily):
  """Predicts the next token; parameters `embed`, `cell`, `logits`.

  Attributes:
    cell: Name in `CELLS`.
    hidden: Width of the state.
    embedding: Width of the embedding.
  """

  cell: str = "lstm"
  hidden: int = 48
  embedding: int = 24

  @property
  def widths(self) -> tuple[str, ...]:
    return ("hidden", "embedding")

  def __post_init__(self):
    super().__post_init__()
    if self.cell not in CELLS:
      raise names.unknown_name("cell", self.cell, CELLS)

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    keys = jax.random.split(key, 4)
    vocabulary = self.data_set.num_classes
    width = CELLS[self.cell].num_gates * self.hidden
    return {
      "embed": layers.variance_scaled(
        keys[0], (vocabulary, self.embedding), fan_in=1
      ),
      "cell": {
        "b": jnp.zeros((width,)),
        "w_in": layers.variance_scaled(keys[1], (self.embedding, width)),
        "w_recurrent": layers.variance_scaled(keys[2], (self.hidden, width)),
      },
      "logits": layers.init_dense(keys[3], self.hidden, vocabulary),
    }

  def logits(
    self, params: Params, batch: Batch, key: PRNGKeyArray
  ) -> Float[Array, "batch length vocabulary"]:
    del key
    step, _, num_states = CELLS[self.cell]
    cell = params["cell"]
    x = layers.embed(params["embed"], batch["obs"])
    # The input's part of all gates is one product outside of the loop.
    gates = jnp.swapaxes(x @ cell["w_in"] + cell["b"], 0, 1)
    start = jnp.zeros((x.shape[0], self.hidden), x.dtype)

    def advance(state, now):
      state = step(now, state[0] @ cell["w_recurrent"], state)
      return state, state[0]

    _, hidden = jax.lax.scan(advance, (start,) * num_states, gates)
    return layers.dense(params["logits"], jnp.swapaxes(hidden, 0, 1))


registry.register("rnn_elman_dyck", RNNLMFamily, data="dyck", cell="elman")
registry.register(
  "rnn_lstm_source", RNNLMFamily, data="python_source", batch_size=16
)
registry.register(
  "rnn_gru_topics", RNNLMFamily, data="python_topics", cell="gru", batch_size=16
)
registry.register(
  "rnn_lstm_recall", RNNLMFamily, data="recall", hidden=40, embedding=16
)
