"""The optimizer of theta: Adam behind a clip, and the schedule of its rate.

A rate may rise at the start of each phase and fall towards a given outer step
of it, or towards its end, however long it is.

Main names: `make`, `decay_over_phase`, `on_continuing`, `on_going_on`.
"""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from meta_train.config import MetaTrainConfig
from meta_train.engine.phases import Phase


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


def on_continuing(
  config: MetaTrainConfig, last: Phase, *, done: int, former_steps: int
) -> str:
  """Returns what a run's new length does to its rate; empty where nothing.

  Args:
    config: the settings of this start.
    last: the last phase.
    done: outer steps done.
    former_steps: `outer_steps` of the start before.
  """
  steps = config.outer_steps
  if config.outer_decay >= 0 or steps == former_steps or done <= last.start:
    return ""
  return (
    f"--outer_decay=-1 follows --outer_steps, which was {former_steps} and is "
    f"{steps}: the outer rate jumps {'up' if steps > former_steps else 'down'} "
    f"here and falls anew, so the result is not that of {steps} outer steps at "
    "once"
  )


def on_going_on(config: MetaTrainConfig, last: Phase) -> str:
  """Returns what happens to the rate of a run that is made longer, as a clause.

  Args:
    config: the settings of the run, which has done its `outer_steps`.
    last: the last phase.
  """
  done = config.outer_steps - last.start
  if config.outer_decay < 0:
    return "the outer rate jumps up and falls anew, by --outer_decay=-1"
  if config.outer_decay and done >= config.outer_decay:
    return f"at 5 % of the outer rate, by --outer_decay={config.outer_decay}"
  return ""
