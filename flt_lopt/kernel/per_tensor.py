"""What a step computes once per tensor.

`before` turns sums over the gradient into this step's coefficients, `after`
turns sums over the direction into the step's length, and `statistics` into
what the next step will know.

Main names: `before`, `after`, `statistics`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flt_lopt import clock as clock_lib
from flt_lopt import controller as controller_lib
from flt_lopt import direction, geometry, scale, tokens
from flt_lopt import progress as progress_lib
from flt_lopt.config import OptimizerConfig
from flt_lopt.kernel import roots
from flt_lopt.kernel.quantities import (
  Gains,
  Products,
  Shared,
  StepScalars,
  Sums,
  TensorScalars,
  TensorState,
)
from flt_lopt.kernel.theta import SQUARE_POLE, square_rate
from flt_lopt.memory import poles as poles_lib
from flt_lopt.memory.base import gates

TINY = 1e-30
#: Parameters smaller than this count as this large in relative steps.
MIN_PARAMETER = 1e-3
#: Largest mean square of parameters that relative steps tell apart.
MAX_SQUARE = 1e37
MIN_GAMMA, MAX_EXPONENT = -0.5, 1.5
#: Number of matrices, and of steps of a run, for which the learned rates are.
USUAL_DEPTH, USUAL_STEPS = 3, 1000.0
#: Runs that are shorter or longer count as these.
MIN_STEPS, MAX_STEPS = 100.0, 20_000.0
#: Below 1, so that a direction of which all is against the gradient stays one.
MAX_CAUTION = 0.99
#: Of a tensor's mean absolute gradient: beyond it the memory might overflow.
MAX_MEAN = 1e34
#: The memory is out of date where a gradient is this much smaller.
STALE = 1e-4
#: How far the scale of a tensor's memory may move in one step, in powers.
MAX_FALL, MAX_RISE = 30, 120


def before(
  config: OptimizerConfig,
  theta,
  state: TensorState,
  sums: Sums,
  tensors,
  clock: clock_lib.Clock,
  progress: progress_lib.Progress,
  weight_decay: Float[Array, "tensors"] | float = 0.0,
) -> tuple[TensorState, TensorScalars, Shared, Gains]:
  """Turns sums over each tensor into this step's coefficients.

  Args:
    config: the optimizer.
    theta: its meta-parameters.
    state: of the step before.
    sums: over each tensor.
    tensors: static facts.
    clock: of this step.
    progress: of the loss.
    weight_decay: the user's decoupled weight decay.
  """
  bank = config.make_memory()
  dtype = state.mass.dtype
  sizes = jnp.asarray([max(t.size, 1) for t in tensors], dtype)
  mean_absolute = sums.absolute / sizes
  finite = mean_absolute < MAX_MEAN
  mean_absolute = jnp.where(finite, mean_absolute, 0.0)
  limit = _limit(config, state, mean_absolute)
  mean_absolute = limit * mean_absolute
  parameter = sums.parameter / sizes
  size = roots.root(parameter)

  exponent, shift = _rescale(state, mean_absolute, finite)
  inverse_scale = scale.power_of_two(-exponent, dtype)
  moved = scale.power_of_two(shift, dtype)
  old = roots.root(state.stats.second) * moved
  new = mean_absolute * inverse_scale
  unit = jnp.maximum(old, new)
  surprise = jnp.log(new + TINY) - jnp.log(old + TINY)

  where = tokens.places(tensors, dtype)
  token = tokens.tokens(
    state.stats,
    surprise=surprise,
    parameter=parameter,
    where=where,
    progress=progress,
    clock=clock,
  )
  modes = bank.num_modes + 1
  control, attention = controller_lib.step(
    config,
    theta.get("controller"),
    state.controller,
    token,
    where,
    clock,
    modes,
  )
  decay, write = _rates(bank, theta["memory"], control, clock)
  # A skipped tensor keeps its memory: decay 1, write 0, mass as before.
  decay = jnp.where(finite[:, None], decay, 1.0)
  write = jnp.where(finite[:, None], write, 0.0)
  mass = decay * state.mass + write
  inverse = 1.0 / jnp.maximum(mass, TINY)

  factors = [jnp.ones_like(moved), moved, moved * moved]
  floats = [
    decay[:, mode] * factors[power]
    for mode, power in zip(bank.mode_of, bank.powers, strict=True)
  ]
  learned = theta["step"]
  epsilon = config.epsilon * jnp.exp(learned["log_epsilon"])
  relative = config.epsilon_mode == "relative"
  is_matrix = np.asarray([geometry.is_matrix(t) for t in tensors])
  scalars = TensorScalars(
    decay=(*floats, decay[:, -1] * factors[2]),
    write=tuple(write[:, k] for k in range(modes)),
    inverse_mass=tuple(inverse[:, k] for k in range(modes)),
    # The weight of the first mode once its mass will have grown.
    ahead=decay[:, 0] * mass[:, 0] / (decay[:, 0] * mass[:, 0] + 1.0),
    # Not of unit 0, whose inverse has no finite derivative.
    epsilon=epsilon
    * (jnp.where(unit > 0, unit, 1.0) if relative else inverse_scale),
    inverse_scale=limit * inverse_scale,
    inverse_unit=roots.inverse(unit),
    inverse_parameter=roots.inverse(size),
    is_matrix=jnp.asarray(is_matrix, bool).reshape(len(tensors)),
    finite=finite,
  )
  gains = _gains(
    config,
    theta["step"],
    tensors,
    control,
    clock,
    parameter,
    weight_decay,
    size=sizes,
    unit=unit,
    gradient=new * roots.inverse(unit),
    finite=finite,
  )
  new_state = TensorState(mass, exponent, state.stats, attention)
  return new_state, scalars, _shared(config, theta, clock), gains


def _limit(config: OptimizerConfig, state: TensorState, mean_absolute):
  """Returns what gradients are multiplied by, 1 or less; [tensors]."""
  if config.gradient_limit is None:
    return jnp.ones_like(mean_absolute)
  # In the memory's units: the derivative squares what it divides by.
  unit = scale.power_of_two(-state.exponent, mean_absolute.dtype)
  size = mean_absolute * unit
  most = config.gradient_limit * roots.root(state.stats.second)
  over = (most > 0) & (size > most)
  return jnp.where(over, most, 1.0) / jnp.where(over, size, 1.0)


def _shared(config: OptimizerConfig, theta, clock: clock_lib.Clock) -> Shared:
  bank = config.make_memory()
  network = None
  if config.has_network:
    network = direction.unpack(
      theta["direction"], bank.num_reads, clock_lib.features(clock)
    )
  return Shared(
    memory=bank.shared(theta["memory"], clock),
    read=tuple(theta["memory"].get("read", ())),
    caution=jnp.clip(theta["step"].get("caution", 0.0), -1.0, MAX_CAUTION),
    network=network,
    count=clock.count,
  )


def _gains(
  config, learned, tensors, control, clock, parameter, weight_decay, **facts
):
  """Returns the gains, given the tensors' mean square parameters."""
  rank = np.asarray([geometry.is_matrix(t) for t in tensors], int)
  log_rate = learned["log_rate"]
  if "matrix_log_rate" in learned:
    matrix = jnp.asarray(rank, log_rate.dtype)
    log_rate = log_rate + matrix * learned["matrix_log_rate"]
  log_rate = log_rate - _shortening(learned, rank, tensors, clock)
  base = config.init_learning_rate * jnp.exp(log_rate)
  base = base * clock_lib.nominal_schedule(clock)
  nominal = geometry.nominal(config.geometry, tensors)
  gamma, rho = _exponents(learned, rank, nominal.rho)
  # Squares of large parameters are infinite, and lengths are not to be.
  bounded = jnp.minimum(parameter, MAX_SQUARE) + MIN_PARAMETER**2
  log_size = 0.5 * jnp.log(bounded)
  log_size = log_size - jnp.asarray(nominal.log_size, parameter.dtype)
  log_length = jnp.asarray(nominal.log_length, parameter.dtype)
  extra = controller_lib.weight_decay(learned["weight_decay"])
  return Gains(
    length=base * jnp.exp(control.log_step + log_length + gamma * log_size),
    decay=base * (control.weight_decay + extra + weight_decay),
    power=rho - 1.0,
    **facts,
  )


def _shortening(learned, rank, tensors, clock: clock_lib.Clock):
  """Returns by how much deep models and long runs shorten steps, in logs."""
  if "depth_exponent" not in learned:
    return 0.0
  by_depth, by_length = (
    jnp.clip(learned[name], -most, most)[rank]
    for name, most in (("depth_exponent", 1.0), ("length_exponent", 0.5))
  )
  total = clock.num_steps
  steps = jnp.clip(total, MIN_STEPS, MAX_STEPS)
  steps = jnp.where(total > 0, steps, USUAL_STEPS)
  depth = float(np.log(geometry.depth(tensors) / USUAL_DEPTH))
  return by_depth * depth + by_length * jnp.log(steps / USUAL_STEPS)


def _rescale(state: TensorState, mean_absolute, finite):
  """Returns the new exponent, and how many powers the memory moves by.

  A skipped tensor keeps both, as it keeps its statistics, which count in
  units of the exponent.
  """
  root = roots.root(state.stats.second)
  lowest = jnp.iinfo(jnp.int32).min
  now = jnp.where(mean_absolute > 0, scale.exponent(mean_absolute), lowest)
  past = jnp.where(root > 0, scale.exponent(root) + state.exponent, lowest)
  exponent = jnp.maximum(now, past)
  some = finite & (exponent != lowest)
  exponent = jnp.where(some, exponent, state.exponent)
  shift = jnp.clip(state.exponent - exponent, -MAX_RISE, MAX_FALL)
  # An empty memory moves by any number of powers.
  return exponent, jnp.where(root > 0, shift, 0)


def _rates(bank, theta, control, clock):
  """Returns decay and write of every mode, [tensors, modes]."""
  rate, write = gates(control.rate_gate), gates(control.write_gate)
  if not bank.gated:
    rate, write = jnp.ones_like(rate), jnp.ones_like(write)
  alpha = square_rate(theta).astype(rate.dtype) * rate[:, -1:]
  decays = [poles_lib.decays([SQUARE_POLE], alpha, clock)]
  if bank.num_modes:
    decays.insert(0, bank.decays(theta, rate[:, :-1], clock))
  return jnp.concatenate(decays, axis=1), write


def _exponents(learned, rank, rho):
  """Returns gamma and rho of every tensor, within bounds."""
  dtype = learned["log_rate"].dtype
  moved = learned.get("exponents", jnp.zeros((2, 2), dtype))[rank]
  gamma = jnp.clip(moved[:, 0], MIN_GAMMA, MAX_EXPONENT)
  # Below 0 steps would grow as the direction fades.
  rho = jnp.asarray(rho, dtype) + moved[:, 1]
  return gamma, jnp.clip(rho, 0.0, MAX_EXPONENT)


def after(gains: Gains, sums: Products) -> StepScalars:
  """Turns sums over the direction into the length of the step.

  It works on scalars of one tensor, or on arrays of all.
  """
  trusted = jnp.isfinite(sums.direction) & (sums.along > 0)
  square = jnp.where(trusted, sums.direction / gains.size, 1.0)
  log_rms = 0.5 * jnp.log(jnp.maximum(square, geometry.MIN_DIRECTION**2))
  log_fresh = jnp.log(jnp.maximum(gains.gradient / STALE, TINY)) - log_rms
  # Where the length does not follow d at all, the whole of it fades.
  fade = jnp.maximum(-gains.power, 0.0) * jnp.minimum(log_fresh, 0.0)
  fade = jnp.where(trusted, fade, 0.0)
  length = gains.length * jnp.exp(gains.power * log_rms + fade)
  moves = gains.finite & jnp.isfinite(length)
  return StepScalars(
    factor=jnp.where(moves, length, 0.0),
    trusted=trusted,
    decay=jnp.where(moves, gains.decay, 0.0),
  )


def statistics(
  old: tokens.Statistics,
  gains: Gains,
  sums: Products,
  second,
  step: StepScalars,
) -> tokens.Statistics:
  """Returns what the next step will know; [tensors] each.

  Args:
    old: of the step before.
    gains: from `before`.
    sums: over the direction.
    second: mean second moment, divided by its mass.
    step: from `after`.
  """
  square = sums.direction / gains.size
  some = step.trusted & (square > 0) & (gains.unit > 0)
  some &= jnp.isfinite(sums.along)
  safe = jnp.where(some, square, 1.0)
  unit = jnp.where(some, gains.unit, 1.0)
  along = jnp.where(some, sums.along, 0.0) / gains.size
  new = tokens.Statistics(
    second=jnp.where(jnp.isfinite(second), second, old.second),
    direction=jnp.where(some, square, 0.0),
    projection=along / (jnp.sqrt(safe) * unit),
    update=jnp.where(some, step.factor**2 * safe, 0.0),
  )
  return jax.tree.map(lambda n, o: jnp.where(gains.finite, n, o), new, old)
