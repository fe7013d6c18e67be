"""Training in a random subspace.

`params = start + P z`, and only the few numbers `z` are trained (Li et al.,
"Measuring the intrinsic dimension of objective landscapes", 2018). `P` has
one nonzero, plus or minus, per parameter, which is as good as a dense
matrix and needs no memory for one (Charikar et al., "Finding frequent items
in data streams", 2002).

Main names: `Subspace`.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from tasks.augment.base import Augmentation
from tasks.base import (
  Aux,
  Batch,
  Config,
  ModelState,
  Params,
  Scalar,
  Task,
  TaskFamily,
)
from tasks.wrapped import WrappedTask


class SubspaceConfig(NamedTuple):
  """Per tensor: where the subspace starts, and which way each part turns."""

  start: Params
  coordinate: Params
  sign: Params


@dataclasses.dataclass(frozen=True)
class Subspace(Augmentation):
  """Trains `dimension` numbers in place of all parameters.

  Attributes:
    dimension: Number of trained parameters.
  """

  dimension: int = 64

  def __post_init__(self):
    if self.dimension < 1:
      raise ValueError(f"dimension={self.dimension} must be at least 1.")

  def sample(
    self, key: PRNGKeyArray, family: TaskFamily, cfg: Config
  ) -> Config:
    start_key, projection_key = jax.random.split(key)
    start, _ = family.task_fn(cfg).init_with_state(start_key)
    leaves, treedef = jax.tree.flatten(start)
    keys = jax.random.split(projection_key, len(leaves))
    words = [jax.random.bits(k, x.shape) for k, x in zip(keys, leaves)]
    coordinate = [((w >> 1) % self.dimension).astype(jnp.int32) for w in words]
    sign = [jnp.where(w & 1, 1.0, -1.0) for w in words]
    return SubspaceConfig(
      start,
      jax.tree.unflatten(treedef, coordinate),
      jax.tree.unflatten(treedef, sign),
    )

  def wrap(self, task: Task, cfg: Config) -> Task:
    return SubspaceTask(task, cfg, self.dimension)


class SubspaceTask(WrappedTask):
  """A task in the coordinates of a random subspace; final.

  Args:
    task: A task without model state in its parameters.
    cfg: Start and projection.
    dimension: Number of trained parameters.
  """

  def __init__(self, task: Task, cfg: SubspaceConfig, dimension: int):
    super().__init__(task)
    self._cfg = cfg
    self._dimension = dimension
    self.architecture = f"subspace({dimension}, {self.architecture})"

  def init_with_state(self, key: PRNGKeyArray) -> tuple[Params, ModelState]:
    _, state = self.task.init_with_state(key)
    return {"z": jnp.zeros((self._dimension,), jnp.float32)}, state

  def expand(self, z: Array) -> Params:
    """Maps coordinates to the parameters of the wrapped task."""
    return jax.tree.map(
      lambda start, i, sign: (
        start.astype(z.dtype) + sign.astype(z.dtype) * z[i]
      ),
      *self._cfg,
    )

  def loss_with_state_and_aux(
    self, params: Params, state: ModelState, key: PRNGKeyArray, data: Batch
  ) -> tuple[Scalar, ModelState, Aux]:
    return super().loss_with_state_and_aux(
      self.expand(params["z"]), state, key, data
    )
