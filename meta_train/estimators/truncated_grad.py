"""Truncated backpropagation through time: the biased gradient of an unroll.

One run goes on from one unroll to the next, at theta itself, without
perturbation. With L_n the loss of unroll n from the state s,

    g = d L_n(theta, s) / d theta   with s held constant,

through all inner steps of the unroll and their second derivatives. It has no
variance beyond the batches', and the bias of `truncated_es`: what theta did
to s in the unrolls before is left out. Long unrolls remove the bias and bring
exploding gradients of chaotic inner dynamics instead, unsmoothed.

One copy is trained; memory grows with the truncation, by the inner state after
each step, from which the rest is computed again on the way back. A gradient
that isn't finite counts as zero, and tasks must be twice differentiable.

Reference: Metz, Maheswaranathan, Nixon, Freeman, Sohl-Dickstein,
"Understanding and Correcting Pathologies in the Training of Learned
Optimizers" (2019), which describes both troubles.

Main names: `truncated_grad`.
"""

from typing import Any, NamedTuple

import jax

from meta_train.engine.unroll import Episode, Run, Unroller
from meta_train.estimators.base import (
  Estimate,
  Estimator,
  finite_or_zero,
  reset_where_done,
)
from meta_train.estimators.failing import NO_BUFFER, FailingStates


class GradState(NamedTuple):
  """State of one task: the episode, where its only run stands, the buffer."""

  episode: Episode
  run: Run
  failing: Any


def truncated_grad(
  unroller: Unroller,
  num_theta: int,
  sigma: float,
  *,
  failing: FailingStates = NO_BUFFER,
) -> Estimator:
  """Makes the estimator.

  Args:
    unroller: trains one copy for one unroll.
    num_theta: not needed.
    sigma: not needed, as nothing is perturbed.
    failing: buffer of states in which episodes may begin.
  """
  del num_theta, sigma

  def init(key, outer_step=0):
    start_key, stagger_key = jax.random.split(key)
    episode, run = unroller.start(start_key, outer_step)
    episode = unroller.stagger(stagger_key, episode)
    return GradState(episode, run, failing.init(episode, run))

  def estimate(
    theta, state: GradState, key, outer_step=0, batches=None, free=1.0
  ):
    unroll_key, reset_key, begin_key = jax.random.split(key, 3)

    def loss_of(theta):
      run, result = unroller.advance(
        theta,
        state.episode,
        state.run,
        unroll_key,
        batches,
        differentiated=True,
      )
      return result.loss, (run, result)

    value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
    (_, (run, result)), gradient = value_and_grad(theta)
    one_copy = jax.tree.map(lambda x: x[None], (state.run, result.failed))
    kept = failing.keep(state.failing, state.episode, *one_copy)
    step = state.episode.step + unroller.truncation
    episode, run, _ = reset_where_done(
      unroller,
      reset_key,
      state.episode._replace(step=step),
      run,
      outer_step,
      begin=lambda *fresh: failing.begin(kept, begin_key, *fresh),
    )
    gradient, dropped = finite_or_zero(gradient, free)
    estimate = Estimate(
      gradient, result.reported, result.diverged * 1.0, dropped
    )
    return GradState(episode, run, kept), estimate

  steps = unroller.truncation
  return Estimator(init, estimate, 1, steps, steps)
