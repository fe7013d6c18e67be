"""The optimizer of theta: Adam behind a clip, and the schedule of its rate.

A rate may rise at the start of each phase and fall towards a given outer step
of it, or towards its end, however long it is.

Main names: `make`, `decay_over_phase`.
"""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from meta_train.config import MetaTrainConfig


def make(
  config: MetaTrainConfig, scale: float | Float[Array, "theta"] = 1.0
) -> optax.GradientTransformation:
  """Returns Adam behind a clip of the global norm, with its schedule.

  Args:
    config: the settings.
    scale: what multiplies its updates.
  """
  rate = config.outer_learning_rate
  schedule: optax.ScalarOrSchedule = rate
  if config.outer_decay < 0:
    return optax.chain(
      optax.clip_by_global_norm(config.outer_gradient_clip),
      optax.scale_by_adam(),
      decay_over_phase(rate, config.outer_warmup),
      optax.stateless(lambda updates, _: scale * updates),
    )
  if config.outer_decay:
    schedule = optax.warmup_cosine_decay_schedule(
      init_value=rate / (config.outer_warmup + 1),
      peak_value=rate,
      warmup_steps=config.outer_warmup,
      decay_steps=config.outer_decay,
      end_value=0.05 * rate,
    )
  elif config.outer_warmup:
    schedule = optax.warmup_constant_schedule(
      rate / (config.outer_warmup + 1), rate, config.outer_warmup
    )
  return optax.chain(
    optax.clip_by_global_norm(config.outer_gradient_clip),
    optax.adam(schedule),
    optax.stateless(lambda updates, _: scale * updates),
  )


def decay_over_phase(
  rate: float, warmup: int
) -> optax.GradientTransformationExtraArgs:
  """Returns descent at a rate that falls to 5 % along a phase's half cosine.

  Args:
    rate: the largest one.
    warmup: over how many outer steps it rises, at the start of each phase.
  """

  def init(params):
    del params
    return optax.ScaleByScheduleState(count=jnp.zeros([], jnp.int32))

  def update(updates, state, params=None, *, length, **extra_args):
    del params, extra_args
    # What optax's schedule does, of a length that is data.
    rise = (1 + state.count) / (warmup + 1)
    share = (state.count - warmup) / jnp.maximum(length - warmup, 1.0)
    cosine = 0.5 * (1 + jnp.cos(jnp.pi * jnp.clip(share, 0.0, 1.0)))
    fall = 0.05 + 0.95 * cosine
    now = rate * jnp.where(state.count < warmup, rise, fall)
    return -now * updates, state._replace(count=state.count + 1)

  return optax.GradientTransformationExtraArgs(init, update)
