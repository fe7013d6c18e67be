"""Small reinforcement learning: cart-pole and pendulum, written in JAX.

`cart_pole` (A. Barto, R. Sutton and C. Anderson, 1983) has two actions and
is learned by policy gradients with a baseline (R. Williams, "Simple
statistical gradient-following algorithms", 1992). `pendulum` swings up by a
continuous torque and is learned by evolution strategies (T. Salimans et
al., 2017). The value of the loss is the mean cost of a step, from 0; only its
gradient is estimated.

Main names: `CartPoleFamily`, `PendulumFamily`.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import layers, registry
from tasks.augment.evolution import evolution_loss
from tasks.base import Batch, Config, Params, Scalar
from tasks.data.generated import stream_key
from tasks.families.base import ZooFamily


@dataclasses.dataclass(frozen=True, kw_only=True)
class ControlFamily(ZooFamily):
  """A policy network and batches of starts; abstract.

  Parameters are those of a policy of two layers, `hidden` and `action`.
  Members differ in a physical length, log-uniform within a factor of two.

  Attributes:
    hidden: Width of the policy's hidden layer.
    horizon: Steps per episode.
  """

  batch_size: int = 16
  hidden: int = 16
  horizon: int = 64

  def sample(self, key: PRNGKeyArray) -> Config:
    draw = jax.random.uniform(self.part_key(key), (), minval=-0.5, maxval=0.5)
    return {"length": 2.0**draw}

  def _init_policy(
    self, key: PRNGKeyArray, num_in: int, num_out: int
  ) -> Params:
    keys = jax.random.split(key, 2)
    return {
      "hidden": layers.init_dense(keys[0], num_in, self.hidden),
      "action": layers.init_dense(keys[1], self.hidden, num_out, scale=0.01),
    }

  def _policy(self, params: Params, x: Array) -> Float[Array, "batch out"]:
    hidden = jnp.tanh(layers.dense(params["hidden"], x))
    return layers.dense(params["action"], hidden).astype(jnp.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CartPoleFamily(ControlFamily):
  """Balances a pole on a cart; cost 1 per step once it has fallen."""

  revision = 1  # The loss was minus the mean reward before.

  data: str = "cart_pole"

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    return self._init_policy(key, 4, 1)

  def sample_batch(self, cfg: Config, key: PRNGKeyArray, split: str) -> Batch:
    del cfg
    key = stream_key(key, self.part, split)
    shape = (self.batch_size, 4)
    return {"start": jax.random.uniform(key, shape, minval=-0.05, maxval=0.05)}

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    start = batch["start"]
    draws = layers.uniform(key, (self.horizon, start.shape[0]))

    def step(carry, draw):
      state, alive = carry
      logit = self._policy(params, state)[:, 0]
      pushes = draw < jax.nn.sigmoid(logit)
      log_prob = -jax.nn.softplus(jnp.where(pushes, -logit, logit))
      state = _cart_pole_step(state, pushes, cfg["length"])
      falls = (jnp.abs(state[:, 2]) > 0.21) | (jnp.abs(state[:, 0]) > 2.4)
      state = jax.lax.stop_gradient(state)
      # Whoever fell stays where he is.
      state = jnp.where((alive > 0)[:, None], state, start)
      return (state, alive * (1.0 - falls)), (log_prob, alive)

    carry = start, jnp.ones(start.shape[:1])
    _, (log_prob, reward) = jax.lax.scan(step, carry, draws)
    to_go = jnp.cumsum(reward[::-1], axis=0)[::-1]
    advantage = to_go - jnp.mean(to_go, axis=1, keepdims=True)
    surrogate = -jnp.mean(log_prob * reward * advantage)
    value = jnp.mean(1.0 - reward)
    return value + surrogate - jax.lax.stop_gradient(surrogate)

  def loss_ceiling(self) -> float:
    return 1.0


def _cart_pole_step(
  state: Float[Array, "batch 4"],
  pushes: Array,
  length: Float[Array, ""],
) -> Float[Array, "batch 4"]:
  """One 0.02 s Euler step of cart and pole; force 10 N either way."""
  _, speed, angle, turn = state.T
  force = jnp.where(pushes, 10.0, -10.0)
  half, pole, total = 0.5 * length, 0.1, 1.1
  sine, cosine = jnp.sin(angle), jnp.cos(angle)
  push = (force + pole * half * turn**2 * sine) / total
  turn_rate = (9.8 * sine - cosine * push) / (
    half * (4 / 3 - pole * cosine**2 / total)
  )
  acceleration = push - pole * half * turn_rate * cosine / total
  change = jnp.stack([speed, acceleration, turn, turn_rate], axis=-1)
  return state + 0.02 * change


@dataclasses.dataclass(frozen=True, kw_only=True)
class PendulumFamily(ControlFamily):
  """Swings a pendulum up; the cost is angle, speed and torque, squared.

  Attributes:
    num_pairs: Antithetic pairs of policies per gradient.
    sigma: Standard deviation of their perturbations.
  """

  data: str = "pendulum"
  batch_size: int = 8
  num_pairs: int = 8
  sigma: float = 0.1

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    del cfg
    return self._init_policy(key, 3, 1)

  def sample_batch(self, cfg: Config, key: PRNGKeyArray, split: str) -> Batch:
    del cfg
    key = stream_key(key, self.part, split)
    draw = jax.random.uniform(key, (self.batch_size, 2), minval=-1, maxval=1)
    return {"start": draw * jnp.array([jnp.pi, 1.0])}

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    return evolution_loss(
      lambda p: self._cost(p, cfg["length"], batch["start"]),
      params,
      key,
      num_pairs=self.num_pairs,
      sigma=self.sigma,
    )

  def _cost(
    self, params: Params, length: Array, start: Float[Array, "batch 2"]
  ) -> Scalar:
    def step(state, _):
      angle, turn = state
      seen = jnp.stack([jnp.cos(angle), jnp.sin(angle), turn / 8], axis=-1)
      torque = 2 * jnp.tanh(self._policy(params, seen)[:, 0])
      upright = (angle + jnp.pi) % (2 * jnp.pi) - jnp.pi
      cost = upright**2 + 0.1 * turn**2 + 0.001 * torque**2
      rate = 15 * jnp.sin(angle) / length + 3 * torque / length**2
      turn = jnp.clip(turn + 0.05 * rate, -8, 8)
      return (angle + 0.05 * turn, turn), cost

    _, costs = jax.lax.scan(
      step, (start[:, 0], start[:, 1]), None, length=self.horizon
    )
    return jnp.mean(costs)

  def loss_ceiling(self) -> float:
    return 20.0


registry.register("cart_pole_16", CartPoleFamily)
registry.register("cart_pole_24", CartPoleFamily, hidden=24)
registry.register("cart_pole_32", CartPoleFamily, hidden=32, horizon=128)
registry.register("pendulum_16", PendulumFamily)
