"""Energies of molecules from the positions of their atoms.

Two models that see no absolute position: a continuous-filter network of
pair distances (K. Schütt et al., "SchNet", 2017), and a Performer whose
attention knows geometry by a learned Fourier transform of the offset
between two atoms (geometric FLT, K. Choromanski et al., "Learning a Fourier
transform for linear relative positional encodings in transformers", 2023).

Main names: `PointCloudFamily`.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import layers, losses, names, registry
from tasks.base import Batch, Config, Params, Scalar
from tasks.data.molecules import NUM_KINDS
from tasks.families.base import ZooFamily
from tasks.transformer import Transformer

MODELS = ("filters", "performer")
_RADII = np.linspace(0.4, 3.0, 12).astype(np.float32)

Atoms = Float[Array, "batch atoms channels"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointCloudFamily(ZooFamily):
  """Regresses a molecule's energy per atom, by mean squared error.

  Parameters are `embed`, the rounds `round_00` ... or `blocks`, and `energy`.

  Attributes:
    model: `"filters"` or `"performer"`.
    width: Channels of an atom.
    num_rounds: Rounds of interaction.
  """

  data: str = "molecules"
  batch_size: int = 16
  model: str = "filters"
  width: int = 24
  num_rounds: int = 2

  def __post_init__(self):
    super().__post_init__()
    if self.model not in MODELS:
      raise names.unknown_name("model", self.model, MODELS)

  def _blocks(self) -> Transformer:
    return Transformer(
      width=self.width,
      num_blocks=self.num_rounds,
      attention="flt",
      coord_dim=3,
    )

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    keys = jax.random.split(key, 3 * self.num_rounds + 3)
    width = self.width
    params: dict[str, Params] = {
      "embed": layers.variance_scaled(keys[0], (NUM_KINDS, width), fan_in=1),
      "energy": layers.init_dense(keys[1], width, 1),
    }
    if self.model == "performer":
      return params | {"blocks": self._blocks().init(keys[2])}
    for i in range(self.num_rounds):
      k = keys[3 * i + 3 : 3 * i + 6]
      params[f"round_{i:02d}"] = {
        "filter": layers.init_dense(k[0], len(_RADII), width),
        "in": layers.init_dense(k[1], width, width),
        "out": layers.init_dense(k[2], width, width),
      }
    return params

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    del cfg, key
    x = layers.embed(params["embed"], batch["kind"])
    if self.model == "performer":
      x = self._blocks()(params["blocks"], x, batch["position"])
    else:
      x = self._filters(params, x, batch["position"])
    share = layers.dense(params["energy"], x)[..., 0].astype(jnp.float32)
    return losses.mean_squared_error(jnp.mean(share, -1), batch["energy"])

  def _filters(self, params: Params, x: Atoms, position: Array) -> Atoms:
    offset = position[:, :, None] - position[:, None]
    distance = jnp.sqrt(jnp.sum(offset**2, axis=-1, keepdims=True) + 1e-6)
    basis = jnp.exp(-10 * (distance - _RADII) ** 2)
    # An atom does not act on itself.
    basis = basis * (1 - jnp.eye(position.shape[1]))[..., None]
    for i in range(self.num_rounds):
      layer = params[f"round_{i:02d}"]
      weights = layers.dense(layer["filter"], basis)
      sent = layers.dense(layer["in"], x)
      received = jnp.sum(weights * sent[:, None], axis=2)
      x = x + jax.nn.silu(layers.dense(layer["out"], received))
    return x

  def loss_ceiling(self) -> float:
    return 10.0


registry.register("molecules_filters_24x2", PointCloudFamily)
registry.register(
  "molecules_filters_16x3", PointCloudFamily, width=16, num_rounds=3
)
registry.register("molecules_flt_24x2", PointCloudFamily, model="performer")
