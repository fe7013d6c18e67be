"""Truncated unrolls: a stretch of inner training under given meta-parameters.

An *episode* is one inner training run from initial parameters to its
horizon; it is cut into unrolls of `truncation` steps, and each unroll is one
call. What both halves of an antithetic pair share (which task, how long, how
far) is in `Episode`; what belongs to one half (inner parameters, optimizer
state) is in `Run`. Everything is for one task and one half: estimators add
the axes by `vmap`.

The loss of an unroll is its part of the meta-objective: the mean of the
normalised training losses of its steps, or what else `objectives` has. A run
whose loss is not finite has diverged: its parameters stay, and every later
step counts the largest loss that the task's normalizer lets through. It is
not reset before its horizon, so that both halves of a pair always start
together.

Main names: `Unroller`, `Episode`, `Run`, `UnrollResult`.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

import flt_lopt
from flt_lopt import flat
from flt_lopt.layout import FlatLayout, infos
from meta_train.engine import horizons
from meta_train.engine.objectives import LOG_FLOOR, OBJECTIVES
from meta_train.engine.supervision import WORST, Supervision
from tasks.hosted import bind

Theta = Float[Array, "theta"]


class Episode(NamedTuple):
  """What the halves of a pair share in one inner training run.

  Attributes:
    cfg: the task's config, from its family.
    length: inner steps until the reset; the very first episodes are cut
      short, so that episodes of different tasks do not end together.
    num_steps: the horizon that the optimizer is told, which may be wrong; 0
      where it is withheld.
    step: finished inner steps.
    sees_loss: whether the optimizer is passed the training loss; in half of
      the episodes, so that it can do without.
    supervision: weights of what an expert adds to the loss, if there is one.
  """

  cfg: Any
  length: Int[Array, ""]
  num_steps: Float[Array, ""]
  step: Int[Array, ""]
  sees_loss: Bool[Array, ""]
  supervision: Any = ()


class Run(NamedTuple):
  """What one half of a pair trains.

  Attributes:
    params: flat inner parameters.
    model_state: the task's.
    optimizer: state of the learned optimizer.
    diverged: whether a loss has not been finite.
    expert: state of the expert, if there is one.
  """

  params: Float[Array, "blocks lanes"]
  model_state: Any
  optimizer: flat.FlatState
  diverged: Bool[Array, ""]
  expert: Any = ()


class UnrollResult(NamedTuple):
  """What an unroll reports.

  Attributes:
    loss: its part of the meta-loss, to be credited.
    reported: the same without what supervision adds.
    diverged: whether the run has diverged, now or before.
    failed: whether training went wrong in this unroll: the run diverged, or
      its loss rose from the first half to the second, by `RISE` of its size.
  """

  loss: Float[Array, ""]
  reported: Float[Array, ""]
  diverged: Bool[Array, ""]
  failed: Bool[Array, ""]


@dataclasses.dataclass(frozen=True)
class Unroller:
  """Runs unrolls of one task family.

  Attributes:
    family: the task family.
    lopt: the learned optimizer.
    unravel: turns flat meta-parameters into a pytree.
    truncation: inner steps per unroll.
    min_horizon: shortest episode, in inner steps.
    max_horizon: longest episode; horizons are log-uniform and rounded to a
      multiple of `truncation`.
    withhold: probability that the optimizer is not told the horizon.
    objective: name in `OBJECTIVES`.
    log_floor: what is added to losses before a logarithm.
    wrong: probability that it is told a wrong one, where it is told one.
    curriculum: outer steps over which the longest horizon grows from
      `min_horizon` to `max_horizon`; 0: it is that from the start.
    supervision: an expert to learn from; None: there is none.
  """

  family: Any
  lopt: flt_lopt.LearnedOptimizer
  unravel: Any
  truncation: int
  min_horizon: int
  max_horizon: int
  withhold: float
  objective: str
  log_floor: float = LOG_FLOOR
  wrong: float = 0.0
  curriculum: int = 0
  supervision: Supervision | None = None

  @functools.cached_property
  def _initial(self) -> Any:
    """Shapes of the inner parameters; equal for all members of the family."""

    def init(key):
      task = self.family.task_fn(self.family.sample(key))
      return task.init_with_state(key)[0]

    return jax.eval_shape(init, jax.random.key(0))

  @functools.cached_property
  def layout(self) -> FlatLayout:
    """How the inner parameters lie in one flat array."""
    return FlatLayout(infos(self._initial))

  def _unflatten(self, params: Float[Array, "blocks lanes"]) -> Any:
    leaves = self.layout.unflatten(params)
    return jax.tree.unflatten(jax.tree.structure(self._initial), leaves)

  def start(
    self, key: PRNGKeyArray, outer_step: Int[Array, ""] | int = 0
  ) -> tuple[Episode, Run]:
    """Draws a task and a horizon and returns the run before its first step.

    Args:
      key: source of all that is drawn.
      outer_step: where schedules over outer steps stand.
    """
    cfg_key, init_key, length_key, told_key = jax.random.split(key, 4)
    cfg = self.family.sample(cfg_key)
    params, model_state = self.family.task_fn(cfg).init_with_state(init_key)
    length = horizons.draw_length(
      length_key,
      outer_step,
      truncation=self.truncation,
      low=self.min_horizon,
      high=self.max_horizon,
      curriculum=self.curriculum,
    )
    told = horizons.draw_told(
      told_key, length, withhold=self.withhold, wrong=self.wrong
    )
    episode = Episode(
      cfg=cfg,
      length=length,
      num_steps=told,
      step=jnp.zeros([], jnp.int32),
      sees_loss=jax.random.bernoulli(jax.random.fold_in(told_key, 1)),
    )
    expert: Any = ()
    if self.supervision is not None:
      expert = self.supervision.init(params)
      weights = self.supervision.weights(outer_step)
      episode = episode._replace(supervision=weights)
    run = Run(
      params=self.layout.flatten(jax.tree.leaves(params)),
      model_state=model_state,
      optimizer=flat.init(self.lopt.config, self.layout),
      diverged=jnp.zeros([], bool),
      expert=expert,
    )
    return episode, run

  def stagger(self, key: PRNGKeyArray, episode: Episode) -> Episode:
    """Cuts a first episode short, to a uniform share of its unrolls."""
    unrolls = episode.length // self.truncation
    kept = jax.random.randint(key, (), 1, unrolls + 1)
    return episode._replace(length=kept * self.truncation)

  def advance(
    self,
    theta: Theta,
    episode: Episode,
    run: Run,
    key: PRNGKeyArray,
    batches: Any = None,
    *,
    differentiated: bool = False,
  ) -> tuple[Run, UnrollResult]:
    """Trains for one unroll.

    Args:
      theta: flat meta-parameters.
      episode: which task, and how far it is.
      run: where the run stands.
      key: source of the unroll's randomness, and of its batches where the
        task draws its own; halves of a pair share it.
      batches: those of the unroll's steps, along the first axis, for a hosted
        task; see `tasks.hosted`.
      differentiated: whether derivatives are taken through it, so that only
        the states between the steps are kept and the rest is computed again,
        which is faster too (memory is what a CPU waits for).

    Returns:
      The run after the unroll, and its result.
    """
    task = self.family.task_fn(episode.cfg)
    tree = self.unravel(theta)
    ceiling = task.normalizer(jnp.asarray(jnp.inf))
    ceiling = jnp.where(jnp.isfinite(ceiling), ceiling, MAX_LOSS)

    def loss_of(params, model_state, step_key, batch):
      fed = task
      if batch is not None:
        pool = jax.tree.map(lambda x: x[None], batch)
        fed = self.family.task_fn(bind(episode.cfg, {"train": pool}))
      return fed.loss_with_state(params, model_state, step_key, None)

    def imitate(run: Run, gradient, params, updates, diverged):
      """Returns the expert's next state, and how far we are from it."""
      if self.supervision is None:
        return (), ()
      theirs, expert = self.supervision.update(gradient, run.expert, params)
      theirs = self.layout.flatten(jax.tree.leaves(theirs))
      found = self.supervision.compare(self.layout, updates, theirs)
      # A gradient may be broken where the loss is not.
      broken = diverged | ~jnp.all(jnp.isfinite(theirs))
      expert = jax.tree.map(
        lambda new, old: jnp.where(broken, old, new), expert, run.expert
      )
      return expert, jnp.where(diverged, jnp.array(WORST), found)

    def step(run: Run, inputs):
      step_key, batch = inputs
      params = self._unflatten(run.params)
      (loss, model_state), gradient = jax.value_and_grad(loss_of, has_aux=True)(
        params, run.model_state, step_key, batch
      )
      updates, optimizer = flat.update(
        self.lopt.config,
        tree,
        self.layout,
        self.layout.flatten(jax.tree.leaves(gradient)),
        run.optimizer,
        run.params,
        num_steps=episode.num_steps,
        value=jnp.where(episode.sees_loss, loss, jnp.nan),
      )
      normalised = jnp.minimum(task.normalizer(loss), ceiling)
      diverged = run.diverged | ~jnp.isfinite(loss) | ~jnp.isfinite(normalised)
      counted = jnp.where(diverged, ceiling, normalised)
      moved = jnp.where(diverged, run.params, run.params + updates)
      expert, apart = imitate(run, gradient, params, updates, diverged)
      run = Run(moved, model_state, optimizer, diverged, expert)
      return run, (counted, apart)

    # One for each step, and one for the held-out batch: `fold_in` would give
    # it that of a step.
    keys = jax.random.split(key, self.truncation + 1)
    lost = run.diverged
    if differentiated:
      step = jax.checkpoint(step, prevent_cse=False)
    run, (losses, apart) = jax.lax.scan(step, run, (keys[:-1], batches))
    failed = ~lost & (run.diverged | _rose(losses))
    objective = OBJECTIVES[self.objective]
    if objective.held_out:
      held_out = self._held_out_loss(task, run, keys[-1])
      losses = jnp.where(run.diverged, ceiling, jnp.minimum(held_out, ceiling))
    values = objective.value(losses, self.log_floor)
    if objective.weight is not None:
      steps = episode.step + jnp.arange(self.truncation)
      values = values * objective.weight(steps, episode.length)
    reported = loss = jnp.mean(values)
    if self.supervision is not None:
      loss = loss + jnp.mean(apart, axis=0) @ episode.supervision
    return run, UnrollResult(loss, reported, run.diverged, failed)

  def _held_out_loss(self, task, run: Run, key) -> Float[Array, ""]:
    """Returns the normalised loss of a run on one held-out batch."""
    batch_key, loss_key = jax.random.split(key)
    sample = getattr(task, "sample_batch", None)  # Other packages' lack it.
    batch = None if sample is None else sample(batch_key, "valid")
    params = self._unflatten(run.params)
    loss, _ = task.loss_with_state(params, run.model_state, loss_key, batch)
    normalised = task.normalizer(loss)
    # As for training losses, what is not finite is as bad as can be.
    finite = jnp.isfinite(loss) & jnp.isfinite(normalised)
    return jnp.where(finite, normalised, jnp.inf)


#: What a diverged run counts where the task's normalizer has no bound.
MAX_LOSS = 1e4

#: Rise of the loss within an unroll, by its own size, that is a failure.
RISE = 0.25


def _rose(losses: Float[Array, "steps"]) -> Bool[Array, ""]:
  """Says whether the second half of an unroll is worse than the first."""
  half = len(losses) // 2
  if not half:
    return jnp.zeros([], bool)
  first, second = jnp.mean(losses[:half]), jnp.mean(losses[half:])
  return second > first + RISE * jnp.abs(first)
