"""Classic test functions of optimisation.

Valleys, plateaus and many local minima, in the form and domain of M. Jamil
and X.-S. Yang, "A literature survey of benchmark functions for global
optimization problems" (2013). Members differ in where the minimum lies and
how far off they start. All minima have the value 0.

Main names: `FunctionFamily`, `FUNCTIONS`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import names, registry
from tasks.base import Batch, Config, Params, Scalar
from tasks.families.base import ZooFamily

Point = Float[Array, "dimension"]


def rosenbrock(x: Point) -> Scalar:
  """A narrow, bent valley; minimum at all ones."""
  return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def rastrigin(x: Point) -> Scalar:
  """A bowl with many regular local minima; minimum at 0."""
  return jnp.sum(x * x + 10 * (1 - jnp.cos(2 * math.pi * x)))


def ackley(x: Point) -> Scalar:
  """A funnel in a nearly flat, rippled plain; minimum at 0."""
  # The small constant keeps the gradient finite at the minimum.
  root = jnp.sqrt(jnp.mean(x * x) + 1e-12)
  waves = jnp.mean(jnp.cos(2 * math.pi * x))
  return 20 * (1 - jnp.exp(-0.2 * root)) + math.e - jnp.exp(waves)


def griewank(x: Point) -> Scalar:
  """A wide bowl with shallow waves; minimum at 0."""
  index = jnp.arange(1, x.shape[0] + 1, dtype=x.dtype)
  return jnp.sum(x * x) / 4000 + 1 - jnp.prod(jnp.cos(x / jnp.sqrt(index)))


def levy(x: Point) -> Scalar:
  """Waves along a diagonal; minimum at all ones."""
  w = 1 + (x - 1) / 4
  middle = (w[:-1] - 1) ** 2 * (1 + 10 * jnp.sin(math.pi * w[:-1] + 1) ** 2)
  last = (w[-1] - 1) ** 2 * (1 + jnp.sin(2 * math.pi * w[-1]) ** 2)
  return jnp.sin(math.pi * w[0]) ** 2 + jnp.sum(middle) + last


def styblinski_tang(x: Point) -> Scalar:
  """Two basins per coordinate, one better; minimum at -2.9035."""
  lowest = 39.16616570377142
  return jnp.sum(0.5 * (x**4 - 16 * x * x + 5 * x) + lowest)


def zakharov(x: Point) -> Scalar:
  """A quadratic with a quartic ridge; minimum at 0."""
  index = jnp.arange(1, x.shape[0] + 1, dtype=x.dtype)
  slope = jnp.sum(0.5 * index * x)
  return jnp.sum(x * x) + slope**2 + slope**4


def dixon_price(x: Point) -> Scalar:
  """A chain of curved valleys."""
  index = jnp.arange(2, x.shape[0] + 1, dtype=x.dtype)
  return (x[0] - 1) ** 2 + jnp.sum(index * (2 * x[1:] ** 2 - x[:-1]) ** 2)


def beale(x: Point) -> Scalar:
  """Flat with sharp corners, two variables; minimum at (3, 0.5)."""
  a, b = x[0], x[1]
  return (
    (1.5 - a + a * b) ** 2
    + (2.25 - a + a * b * b) ** 2
    + (2.625 - a + a * b**3) ** 2
  )


def himmelblau(x: Point) -> Scalar:
  """Four equal minima, two variables."""
  a, b = x[0], x[1]
  return (a * a + b - 11) ** 2 + (a + b * b - 7) ** 2


def booth(x: Point) -> Scalar:
  """A tilted quadratic, two variables; minimum at (1, 3)."""
  a, b = x[0], x[1]
  return (a + 2 * b - 7) ** 2 + (2 * a + b - 5) ** 2


class Function(NamedTuple):
  """A test function, the half-width of its domain, and its dimension."""

  fn: Callable[[Point], Scalar]
  radius: float
  dimension: int | None = None


FUNCTIONS: Mapping[str, Function] = {
  "rosenbrock": Function(rosenbrock, 2.0),
  "rastrigin": Function(rastrigin, 3.0),
  "ackley": Function(ackley, 4.0),
  "griewank": Function(griewank, 8.0),
  "levy": Function(levy, 5.0),
  "styblinski_tang": Function(styblinski_tang, 5.0),
  "zakharov": Function(zakharov, 1.5),
  "dixon_price": Function(dixon_price, 2.0),
  "beale": Function(beale, 2.0, 2),
  "himmelblau": Function(himmelblau, 5.0, 2),
  "booth": Function(booth, 5.0, 2),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FunctionFamily(ZooFamily):
  """Minimises a shifted test function in `x` [dimension].

  Attributes:
    function: Name in `FUNCTIONS`.
    dimension: Number of variables, for functions that leave it open.
  """

  function: str = "rosenbrock"
  data: str = "function"
  dimension: int = 10

  def __post_init__(self):
    super().__post_init__()
    if self.function not in FUNCTIONS:
      raise names.unknown_name("test function", self.function, FUNCTIONS)

  @property
  def _size(self) -> int:
    return FUNCTIONS[self.function].dimension or self.dimension

  @property
  def widths(self) -> tuple[str, ...]:
    fixed = FUNCTIONS[self.function].dimension is not None
    return () if fixed else ("dimension",)

  def sample(self, key: PRNGKeyArray) -> Config:
    shift = jax.random.normal(self.part_key(key), (self._size,))
    return {"shift": shift}

  def init_params(self, cfg: Config, key: PRNGKeyArray) -> Params:
    radius = FUNCTIONS[self.function].radius
    start = jax.random.uniform(
      key, (self._size,), minval=-radius, maxval=radius
    )
    return {"x": start + cfg["shift"]}

  def sample_batch(self, cfg: Config, key: PRNGKeyArray, split: str) -> Batch:
    del cfg, key, split
    return {}

  def batch_loss(
    self, cfg: Config, params: Params, key: PRNGKeyArray, batch: Batch
  ) -> Scalar:
    del key, batch
    x = params["x"].astype(jnp.float32) - cfg["shift"]
    return FUNCTIONS[self.function].fn(x)


for _name in FUNCTIONS:
  registry.register(_name, FunctionFamily, function=_name)
