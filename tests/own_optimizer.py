"""An optimizer of a user's own, for tests of the command line."""

import jax.numpy as jnp
import optax


def decaying(num_steps):
  """Adam whose rate falls to zero at the end."""
  return optax.adam(optax.linear_schedule(0.1, 0.0, num_steps))


def with_warmup(num_steps):
  """Can't be made for 200 steps or fewer."""
  return optax.adam(
    optax.warmup_cosine_decay_schedule(0.0, 0.1, 200, num_steps)
  )


def plain():
  """Takes nothing."""
  return optax.sgd(0.1)


def wants_value(num_steps):
  """Needs the loss: the step is shorter where the loss is lower."""

  def update(updates, state, params=None, *, value, **extra):
    del params, extra
    rate = 0.1 * jnp.minimum(value, 1.0) * (1 + 0 * num_steps)
    return {name: -rate * x for name, x in updates.items()}, state

  return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def wants_more(learning_rate):
  """Has an argument that nobody gives it."""
  return optax.sgd(learning_rate)


def makes_nothing(num_steps):
  """Is no optimizer."""
  return num_steps


def fails_on_tasks(num_steps):
  """Can't be used on any task."""
  del num_steps

  def init(params):
    raise ValueError("these parameters are not for me")

  return optax.GradientTransformation(init, lambda *args: args)


#: Is what a factory should return, and no factory.
made = optax.sgd(0.1)
