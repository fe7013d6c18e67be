"""Physics-informed networks: differential equations as losses.

The loss is the mean squared residual of the equation at random points, plus
that of initial and boundary values (M. Raissi, P. Perdikaris and G.
Karniadakis, "Physics-informed neural networks", 2019). Derivatives are
taken forwards, of the whole batch at once. Members differ in the forcing or
the initial value, a random sum of sines.

Main names: `PINNFamily`, `EQUATIONS`.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import layers, names, registry
from tasks.base import Batch, Config, Params, Scalar
from tasks.families.base import ZooFamily

Points = Float[Array, "points 2"]
Values = Float[Array, "points"]
Net = Callable[[Points], Values]
_NUM_MODES = 3


def _sines(cfg: Config, x: Values) -> Values:
  modes = jnp.pi * jnp.arange(1, _NUM_MODES + 1)
  return jnp.sin(x[:, None] * modes) @ cfg["amplitude"]


def _along(net: Net, points: Points, axis: int) -> tuple[Values, Values]:
  """First and second derivative along one coordinate."""
  direction = jnp.broadcast_to(jnp.eye(2)[axis], points.shape)
  slope = lambda p: jax.jvp(net, (p,), (direction,))[1]  # noqa: E731
  return jax.jvp(slope, (points,), (direction,))


def _burgers(net: Net, cfg: Config, points: Points) -> Values:
  """u_t + u u_x = nu u_xx, towards a shock."""
  u = net(points)
  u_x, u_xx = _along(net, points, 0)
  u_t, _ = _along(net, points, 1)
  return u_t + u * u_x - 0.05 * u_xx


def _heat(net: Net, cfg: Config, points: Points) -> Values:
  """u_t = nu u_xx."""
  _, u_xx = _along(net, points, 0)
  u_t, _ = _along(net, points, 1)
  return u_t - 0.1 * u_xx


def _poisson(net: Net, cfg: Config, points: Points) -> Values:
  """u_xx + u_yy = f on a square, zero on its border, by a factor."""
  zero_at_border = lambda p: net(p) * jnp.prod(1 - p * p, axis=-1)  # noqa: E731
  _, u_xx = _along(zero_at_border, points, 0)
  _, u_yy = _along(zero_at_border, points, 1)
  force = _sines(cfg, points[:, 0]) * jnp.cos(jnp.pi * points[:, 1] / 2)
  return u_xx + u_yy - 3 * force


class Equation(NamedTuple):
  """An equation's residual, and whether it starts from an initial value."""

  residual: Callable[[Net, Config, Points], Values]
  has_time: bool


EQUATIONS: Mapping[str, Equation] = {
  "burgers": Equation(_burgers, True),
  "heat": Equation(_heat, True),
  "poisson": Equation(_poisson, False),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class PINNFamily(ZooFamily):
  """Solves an equation on -1..1 in space and 0..1 in time.

  Parameters are `layer_00` ... of a tanh network.

  Attributes:
    equation: Name in `EQUATIONS`.
    hidden: Widths of the hidden layers.
  """

  data: str = "equation"
  batch_size: int = 64
  equation: str = "burgers"
  hidden: tuple[int, ...] = (24, 24)

  def __post_init__(self):
    super().__post_init__()
    if self.equation not in EQUATIONS:
      raise names.unknown_name("equation", self.equation, EQUATIONS)

  def sample(self, key: PRNGKeyArray) -> Config:
    amplitude = jax.random.normal(self.part_key(key), (_NUM_MODES,))
    return {"amplitude": amplitude / jnp.arange(1, _NUM_MODES + 1)}

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    sizes = (2, *self.hidden, 1)
    keys = jax.random.split(key, len(sizes) - 1)
    return {
      f"layer_{i:02d}": layers.init_dense(k, a, b)
      for i, (k, (a, b)) in enumerate(zip(keys, itertools.pairwise(sizes)))
    }

  def sample_batch(self, cfg: Config, key: PRNGKeyArray, split: str) -> Batch:
    del cfg, split  # Points never repeat, so that there is but one split.
    unit = layers.uniform(key, (self.batch_size, 2))
    if not EQUATIONS[self.equation].has_time:
      return {"points": 2 * unit - 1}
    return {"points": jnp.stack([2 * unit[:, 0] - 1, unit[:, 1]], axis=-1)}

  def _net(self, params: Params) -> Net:
    def net(x: Points) -> Values:
      for i in range(len(self.hidden)):
        x = jnp.tanh(layers.dense(params[f"layer_{i:02d}"], x))
      out = layers.dense(params[f"layer_{len(self.hidden):02d}"], x)
      return out[:, 0].astype(jnp.float32)

    return net

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    del key
    points, net = batch["points"], self._net(params)
    residual, has_time = EQUATIONS[self.equation]
    loss = jnp.mean(residual(net, cfg, points) ** 2)
    if not has_time:
      return loss
    x, t = points[:, 0], points[:, 1]
    start = net(jnp.stack([x, jnp.zeros_like(t)], -1)) - _sines(cfg, x)
    border = net(jnp.stack([jnp.sign(x), t], -1))
    return loss + 5 * jnp.mean(start**2) + jnp.mean(border**2)

  def loss_ceiling(self) -> float:
    return 50.0


registry.register("pinn_burgers_24x2", PINNFamily)
registry.register(
  "pinn_heat_20x3", PINNFamily, equation="heat", hidden=(20, 20, 20)
)
registry.register(
  "pinn_poisson_32x2", PINNFamily, equation="poisson", hidden=(32, 32)
)
