"""Several tasks trained at once under a weighted sum of their losses.

Parameters, batches and losses of different kinds meet in one optimizer
step, as in multi-task training; weights are sampled from a flat Dirichlet
distribution.

Main names: `MixtureFamily`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from tasks import width
from tasks.base import (
  Batch,
  Config,
  Params,
  Scalar,
  Task,
  TaskFamily,
  is_empty,
)


class MixtureFamily(TaskFamily):
  """Sums of members of several families without model state; final.

  Args:
    families: Two or more families.
    name: Name; `None` joins the names of the families.
  """

  def __init__(self, families: Sequence[TaskFamily], name: str | None = None):
    if len(families) < 2:
      raise ValueError(
        f"A mixture of {len(families)} families is none; give two or more."
      )
    self.families = tuple(families)
    self._name = name or "+".join(f.name for f in families)
    self.architecture = "+".join(f.architecture for f in families)
    self.data_ids = frozenset().union(*(f.data_ids for f in families))

  def widened(self, factor: int) -> TaskFamily:
    """Returns the mixture of the widened families."""
    wide = [width.scale_width(family, factor) for family in self.families]
    return MixtureFamily(wide, f"{self.name}_wide{factor}")

  def sample(self, key: PRNGKeyArray) -> Config:
    keys = jax.random.split(key, len(self.families) + 1)
    mass = jax.random.exponential(keys[-1], (len(self.families),))
    cfgs = tuple(f.sample(k) for f, k in zip(self.families, keys))
    return {"weights": mass / jnp.sum(mass), "members": cfgs}

  def task_fn(self, cfg: Config) -> Task:
    members = zip(self.families, cfg["members"])
    return MixtureTask(self, [f.task_fn(c) for f, c in members], cfg["weights"])


class MixtureTask(Task):
  """A weighted sum of tasks; parameters are a tuple of theirs; final."""

  def __init__(
    self,
    family: MixtureFamily,
    members: Sequence[Task],
    weights: Float[Array, "tasks"],
  ):
    self._family = family
    self._members = members
    self._weights = weights
    self.architecture = family.architecture
    self.data_ids = family.data_ids

  @property
  def name(self) -> str:
    return self._family.name

  def init(self, key: PRNGKeyArray) -> Params:
    keys = jax.random.split(key, len(self._members))
    return tuple(task.init(k) for task, k in zip(self._members, keys))

  def loss(self, params: Params, key: PRNGKeyArray, data: Batch) -> Scalar:
    if is_empty(data):
      data = self.sample_batch(key)
      key = jax.random.fold_in(key, 1)
    keys = jax.random.split(key, len(self._members))
    losses = [
      task.loss(p, k, batch)
      for task, p, k, batch in zip(self._members, params, keys, data)
    ]
    return jnp.sum(self._weights * jnp.stack(losses))

  def normalizer(self, loss: Float[Array, "..."]) -> Float[Array, "..."]:
    """Clips at the weighted sum of the members' own ceilings."""
    ceilings = [
      jnp.nan_to_num(task.normalizer(jnp.float32(jnp.inf)), posinf=jnp.inf)
      for task in self._members
    ]
    ceiling = jnp.sum(self._weights * jnp.stack(ceilings))
    return jnp.where(jnp.isfinite(loss), jnp.minimum(loss, ceiling), ceiling)

  def sample_batch(self, key: PRNGKeyArray, split: str = "train") -> Batch:
    keys = jax.random.split(key, len(self._members))
    return [t.sample_batch(k, split) for t, k in zip(self._members, keys)]
