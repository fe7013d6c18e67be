"""Gradients estimated by evolution strategies, for rewards without slope.

The loss is left as it is; its gradient is replaced by that of the smoothed
loss, `E[loss(params + sigma e) e] / sigma`, estimated from antithetic pairs
(T. Salimans et al., "Evolution strategies as a scalable alternative to
reinforcement learning", 2017).

Main names: `EvolutionGradient`, `evolution_loss`.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from tasks import layers
from tasks.augment.base import Augmentation
from tasks.base import (
  Aux,
  Batch,
  Config,
  ModelState,
  Params,
  Scalar,
  Task,
)
from tasks.wrapped import WrappedTask


def evolution_loss(
  fn: Callable[[Params], Scalar],
  params: Params,
  key: PRNGKeyArray,
  *,
  num_pairs: int,
  sigma: float,
) -> Scalar:
  """Returns `fn(params)`, whose gradient is estimated from perturbations.

  Args:
    fn: Loss; need not be differentiable.
    params: Where to evaluate.
    key: Random key of the perturbations.
    num_pairs: Antithetic pairs.
    sigma: Standard deviation of the perturbations.
  """
  fixed = jax.lax.stop_gradient(params)
  leaves, treedef = jax.tree.flatten(fixed)

  def pair(key: PRNGKeyArray) -> Params:
    keys = jax.random.split(key, len(leaves))
    noise = jax.tree.unflatten(
      treedef,
      [layers.normal(k, p.shape).astype(p.dtype) for k, p in zip(keys, leaves)],
    )
    ahead = fn(jax.tree.map(lambda p, e: p + sigma * e, fixed, noise))
    behind = fn(jax.tree.map(lambda p, e: p - sigma * e, fixed, noise))
    slope = (ahead - behind) / (2 * sigma)
    return jax.tree.map(lambda e: (slope * e).astype(e.dtype), noise)

  gradients = jax.vmap(pair)(jax.random.split(key, num_pairs))
  gradient = jax.tree.map(lambda g: jnp.mean(g, axis=0), gradients)
  # Worth nothing, but with the gradient wanted.
  slopes = jax.tree.map(
    lambda g, p: jnp.sum(
      jax.lax.stop_gradient(g) * (p - jax.lax.stop_gradient(p))
    ).astype(jnp.float32),
    gradient,
    params,
  )
  value = jax.lax.stop_gradient(fn(fixed))
  return value + sum(jax.tree.leaves(slopes))


@dataclasses.dataclass(frozen=True)
class EvolutionGradient(Augmentation):
  """Replaces a task's gradient by an estimate from perturbations.

  Attributes:
    num_pairs: Antithetic pairs per step.
    sigma: Standard deviation of the perturbations.
  """

  num_pairs: int = 4
  sigma: float = 0.02

  def __post_init__(self):
    if self.num_pairs < 1 or not self.sigma > 0:
      raise ValueError(
        f"num_pairs={self.num_pairs} must be at least 1 and"
        f" sigma={self.sigma} positive."
      )

  def wrap(self, task: Task, cfg: Config) -> Task:
    del cfg
    return EvolutionTask(task, self)


class EvolutionTask(WrappedTask):
  """A task without model state whose gradient is estimated; final."""

  def __init__(self, task: Task, options: EvolutionGradient):
    super().__init__(task)
    self._options = options

  def loss_with_state_and_aux(
    self, params: Params, state: ModelState, key: PRNGKeyArray, data: Batch
  ) -> tuple[Scalar, ModelState, Aux]:
    # All perturbations meet the same batch and the same noise.
    data, key = self.training_batch(key, data)
    loss = evolution_loss(
      lambda p: self.task.loss(p, key, data),
      params,
      jax.random.fold_in(key, 4),
      num_pairs=self._options.num_pairs,
      sigma=self._options.sigma,
    )
    return loss, state, {}
