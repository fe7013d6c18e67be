"""Full backpropagation through time: the exact gradient of an episode.

Each call draws a task and a horizon, trains one run from initial parameters
to the horizon at theta itself, and returns

    g = d L(theta) / d theta,    L = the mean loss of the N unrolls,

through all inner steps: without bias, without smoothing, without variance
beyond tasks and batches. For long episodes it is the gradient of a chaotic
function, exact and often useless (Metz et al. 2019); for short ones, the
answer that the other estimators are held against.

Cost: reverse mode needs a loop of known length, so each call runs
floor(max_horizon / truncation) unrolls, forwards and then once more and
backwards; what is past the horizon is computed and discarded. Memory is that
of one inner state per unroll and the activations of one unroll, by
checkpointing at the edges of unrolls. A gradient that isn't finite counts as
zero, and tasks must be twice differentiable. As in `full_es`, an episode has
one vote whatever its length.

References: Metz, Maheswaranathan, Nixon, Freeman, Sohl-Dickstein,
"Understanding and Correcting Pathologies in the Training of Learned
Optimizers" (2019); Chen, Xu, Zhang, Guestrin, "Training Deep Nets with
Sublinear Memory Cost" (2016), for the checkpoints.

Main names: `full_grad`.
"""

import jax
import jax.numpy as jnp

from meta_train.engine.unroll import Unroller
from meta_train.estimators.base import (
  Estimate,
  Estimator,
  NoState,
  finite_or_zero,
  longest,
  mean_length,
  no_state,
  unroll_of,
)


def full_grad(unroller: Unroller, num_theta: int, sigma: float) -> Estimator:
  """Makes the estimator.

  Args:
    unroller: trains one copy for one unroll.
    num_theta: not needed.
    sigma: not needed, as nothing is perturbed.
  """
  del num_theta, sigma
  num_unrolls = longest(unroller) // unroller.truncation

  def estimate(
    theta, state: NoState, key, outer_step=0, batches=None, free=1.0
  ):
    start_key, unroll_key = jax.random.split(key)
    episode, start = unroller.start(start_key, outer_step)

    def loss_of(theta):
      @jax.checkpoint
      def unroll(run, step):
        active = step < episode.length
        # Past the horizon the run stays, and what is computed in vain starts
        # from the initial one: a zero times its derivatives must be zero.
        now = episode._replace(step=jnp.where(active, step, 0))
        key = jax.random.fold_in(unroll_key, step)
        moved, result = unroller.advance(
          theta,
          now,
          _choose(active, run, start),
          key,
          unroll_of(batches, unroller, step),
          differentiated=True,
        )
        losses = jnp.stack([result.loss, result.reported])
        return _choose(active, moved, run), jnp.where(active, losses, 0.0)

      steps = unroller.truncation * jnp.arange(num_unrolls)
      run, losses = jax.lax.scan(unroll, start, steps)
      each = unroller.truncation / episode.length
      loss, reported = jnp.sum(losses, axis=0) * each
      return loss, (reported, run.diverged)

    value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
    (_, (reported, diverged)), gradient = value_and_grad(theta)
    gradient, dropped = finite_or_zero(gradient, free)
    return state, Estimate(gradient, reported, diverged * 1.0, dropped)

  steps = mean_length(unroller)
  return Estimator(no_state, estimate, 1, steps, longest(unroller))


def _choose(condition, one, other):
  return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)
