"""One step of the optimizer, the same for both layouts.

    gradient -> scale -> controller -> memory -> direction -> geometry -> step

The work is split by what it costs. Per tensor (cheap): `before` turns sums
over the gradient into this step's coefficients, `after` turns sums over the
direction into the step's length. Per parameter (all the cost): `advance`
updates the memory, `direct` evaluates the direction network, and `apply_step`
scales the result.

With n the nominal direction (Adam's), d = n + residual, p the parameters and
rms the root mean square over the tensor, the update is

    u = -eta s(t) [ exp(c) rms(p)**gamma rms(d)**rho d / rms(d) + w p ],

where eta is the learned step size, s the nominal schedule, c and w the
controller's log step and weight decay. At initialisation gamma = 0, rho = 1,
c = w = 0 and d = n: AdamW. With rho = 0 the step has unit size per tensor.

Gradients are divided by a power of two per tensor, see `flt_lopt.scale`.

Safeguard: where d is not finite, or points away from the nominal reading
(their inner product, before division by the second moment, isn't positive), the
tensor's step falls back to AdamW's. Where a tensor's gradient is not finite,
or so large that the sum of its absolute values is not, its update is zero and
its memory keeps its values. Where the parameters are so large that the length
of the step is not finite, the update is zero.

Main names: `before`, `advance`, `direct`, `after`, `apply_step`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from flt_lopt import clock as clock_lib
from flt_lopt import controller as controller_lib
from flt_lopt import direction, geometry, memory, scale, tokens
from flt_lopt import progress as progress_lib
from flt_lopt.config import OptimizerConfig
from flt_lopt.memory import poles as poles_lib
from flt_lopt.memory.base import gates
from flt_lopt.memory.poles import ema

TINY = 1e-30
#: Parameters smaller than this count as this large in relative steps.
MIN_PARAMETER = 1e-3
MIN_GAMMA, MAX_EXPONENT = -0.5, 1.5
SQUARE_POLE = ema(0.999)
#: Of a tensor's mean absolute gradient: beyond it the memory might overflow.
MAX_MEAN = 1e34
#: How far the scale of a tensor's memory may move in one step, in powers.
MAX_FALL, MAX_RISE = 30, 120


class TensorState(NamedTuple):
  """What the optimizer keeps per tensor; every leaf is [tensors, ...].

  Attributes:
    mass: normaliser Z of each mode, the second moment's last.
    exponent: gradients in the memory are divided by two to this power.
    stats: statistics of the step before.
    controller: the controller's state.
  """

  mass: Float[Array, "tensors modes"]
  exponent: Int[Array, "tensors"]
  stats: tokens.Statistics
  controller: Any


class Sums(NamedTuple):
  """Sums of |g| and of p squared, which `before` needs."""

  absolute: Float[Array, "tensors"]
  parameter: Float[Array, "tensors"]


class TensorScalars(NamedTuple):
  """Scalars of one tensor; the memory's entries are per float or mode."""

  decay: tuple[Any, ...]
  write: tuple[Any, ...]
  inverse_mass: tuple[Any, ...]
  ahead: Any
  epsilon: Any
  inverse_scale: Any
  inverse_unit: Any
  inverse_parameter: Any
  is_matrix: Any
  finite: Any


class Shared(NamedTuple):
  """What all tensors share in one step."""

  memory: Any
  read: tuple[Any, ...]
  network: direction.Weights | None
  count: Int[Array, ""]  # type: ignore[assignment]


class Gains(NamedTuple):
  """What the step needs once the direction is known; [tensors] each."""

  length: Any
  decay: Any
  power: Any
  size: Any
  unit: Any
  finite: Any


class StepScalars(NamedTuple):
  """Factors of one tensor for `apply_step`."""

  factor: Any
  trusted: Any
  decay: Any


def init_tensors(
  config: OptimizerConfig, num_tensors: int, dtype=jnp.float32
) -> TensorState:
  """Returns the per-tensor state before the first step."""
  modes = config.make_memory().num_modes + 1
  return TensorState(
    mass=jnp.zeros((num_tensors, modes), dtype),
    exponent=jnp.zeros(num_tensors, jnp.int32),
    stats=tokens.init_statistics(num_tensors, dtype),
    controller=controller_lib.init_state(config, num_tensors, dtype),
  )


def init_theta(config: OptimizerConfig, key) -> dict[str, Any]:
  """Returns theta, at which the optimizer is its reference."""
  bank = config.make_memory()
  direction_key, controller_key, memory_key = jax.random.split(key, 3)
  learned = bank.init(memory_key)
  if getattr(bank, "learned", True):
    learned["log_square_rate"] = jnp.zeros([], jnp.float32)
  step = {
    "log_rate": jnp.zeros([], jnp.float32),
    "log_epsilon": jnp.zeros([], jnp.float32),
    "weight_decay": jnp.zeros([], jnp.float32),
  }
  theta = {"memory": learned, "step": step}
  if config.direction != "off":
    nominal = np.zeros(bank.num_reads + 1, np.float32)
    nominal[bank.nominal] = 1.0
    learned["read"] = jnp.asarray(nominal)
    step["exponents"] = jnp.zeros(2, jnp.float32)
    theta["direction"] = direction.init(
      direction_key,
      bank.num_reads,
      config.hidden_units,
      has_magnitude=config.direction == "direction_magnitude",
    )
  if config.controller != "off":
    theta["controller"] = controller_lib.init(
      config, bank.num_modes + 1, controller_key
    )
  return theta


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
  parameter = sums.parameter / sizes
  size = _root(parameter)

  exponent, shift = _rescale(state, mean_absolute)
  inverse_scale = scale.power_of_two(-exponent, dtype)
  moved = scale.power_of_two(shift, dtype)
  old = _root(state.stats.second) * moved
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
  is_matrix = np.asarray([geometry.is_matrix(t.shape) for t in tensors])
  scalars = TensorScalars(
    decay=(*floats, decay[:, -1] * factors[2]),
    write=tuple(write[:, k] for k in range(modes)),
    inverse_mass=tuple(inverse[:, k] for k in range(modes)),
    # The weight of the first mode once its mass will have grown.
    ahead=decay[:, 0] * mass[:, 0] / (decay[:, 0] * mass[:, 0] + 1.0),
    # Not of unit 0, whose inverse has no finite derivative.
    epsilon=epsilon
    * (jnp.where(unit > 0, unit, 1.0) if relative else inverse_scale),
    inverse_scale=inverse_scale,
    inverse_unit=_inverse(unit),
    inverse_parameter=_inverse(size),
    is_matrix=jnp.asarray(is_matrix, bool).reshape(len(tensors)),
    finite=finite,
  )
  base = config.init_learning_rate * jnp.exp(learned["log_rate"])
  base = base * clock_lib.nominal_schedule(clock)
  gamma, rho = _exponents(learned)
  log_size = 0.5 * jnp.log(parameter + MIN_PARAMETER**2)
  extra = controller_lib.weight_decay(learned["weight_decay"])
  gains = Gains(
    length=base * jnp.exp(control.log_step + gamma * log_size),
    decay=base * (control.weight_decay + extra + weight_decay),
    power=jnp.broadcast_to(rho - 1.0, finite.shape),
    size=sizes,
    unit=unit,
    finite=finite,
  )
  shared = Shared(
    memory=bank.shared(theta["memory"], clock),
    read=tuple(theta["memory"].get("read", ())),
    network=direction.unpack(
      theta["direction"], bank.num_reads, clock_lib.features(clock)
    )
    if config.direction != "off"
    else None,
    count=clock.count,
  )
  new_state = TensorState(mass, exponent, state.stats, attention)
  return new_state, scalars, shared, gains


def _rescale(state: TensorState, mean_absolute):
  """Returns the new exponent, and how many powers the memory moves by."""
  root = _root(state.stats.second)
  lowest = jnp.iinfo(jnp.int32).min
  now = jnp.where(mean_absolute > 0, scale.exponent(mean_absolute), lowest)
  past = jnp.where(root > 0, scale.exponent(root) + state.exponent, lowest)
  exponent = jnp.maximum(now, past)
  exponent = jnp.where(exponent == lowest, state.exponent, exponent)
  shift = jnp.clip(state.exponent - exponent, -MAX_RISE, MAX_FALL)
  # An empty memory moves by any number of powers.
  return exponent, jnp.where(root > 0, shift, 0)


def square_rate(theta) -> Float[Array, ""]:
  """Returns alpha per step of the second moment."""
  offset = theta.get("log_square_rate", jnp.zeros([]))
  return poles_lib.rates([SQUARE_POLE], offset[None])[0]


def square_kernel(theta, lags: Float[Array, "lags"]) -> Float[Array, "lags"]:
  """Returns the weight of the squared gradient of `lags` steps ago."""
  alpha = square_rate(theta)
  return -jnp.expm1(-alpha) * jnp.exp(-alpha * lags)


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


def _exponents(learned):
  """Returns gamma and rho, within bounds."""
  if "exponents" not in learned:
    zero = jnp.zeros_like(learned["log_rate"])
    return zero, zero + 1.0
  moved = learned["exponents"]
  gamma = jnp.clip(moved[0], MIN_GAMMA, MAX_EXPONENT)
  # Below 0 steps would grow as the direction fades.
  return gamma, jnp.clip(1.0 + moved[1], 0.0, MAX_EXPONENT)


def scaled(scalars: TensorScalars, gradient):
  """Returns the gradient in the memory's units, 0 where it isn't finite."""
  return jnp.where(scalars.finite, gradient, 0.0) * scalars.inverse_scale


def advance_second(config: OptimizerConfig, scalars, second, gradient):
  """Updates the second moment; returns (state, v of every parameter)."""
  form = config.make_second_moment()
  new = form.advance(second, gradient, scalars.decay[-1], scalars.write[-1])
  return new, form.read(new, scalars.inverse_mass[-1])


def advance(
  config: OptimizerConfig, scalars: TensorScalars, shared: Shared, modes, g
):
  """Updates the memory of the gradient; returns (modes, reads)."""
  coefficients = memory.Coefficients(
    decay=scalars.decay[:-1],
    write=scalars.write[:-1],
    inverse_mass=scalars.inverse_mass[:-1],
    inverse_unit=scalars.inverse_unit,
    shared=shared.memory,
  )
  modes, reads = config.make_memory().advance(modes, g, coefficients)
  if config.nesterov:
    reads = (_look_ahead(scalars, reads[0], g), *reads[1:])
  return modes, reads


def _look_ahead(scalars: TensorScalars, read, gradient):
  fresh = scalars.write[0] * scalars.inverse_mass[0]
  return scalars.ahead * read + fresh * gradient


def nominal_terms(config: OptimizerConfig, scalars, modes, gradient):
  """Returns the reading that AdamW moves along, as (factor, array) terms.

  Args:
    config: the optimizer.
    scalars: the tensor's scalars.
    modes: the new memory.
    gradient: as it was given, not `scaled`.
  """
  if config.make_memory().nominal < 0:
    return [(scalars.inverse_scale, gradient)]
  mass = scalars.inverse_mass[0]
  if not config.nesterov:
    return [(mass, modes[0])]
  fresh = scalars.write[0] * mass * scalars.inverse_scale
  return [(scalars.ahead * mass, modes[0]), (fresh, gradient)]


def total(terms):
  """Returns the sum of (factor, array) terms."""
  first, *rest = (factor * array for factor, array in terms)
  return sum(rest, start=first)


def preconditioner(config: OptimizerConfig, scalars: TensorScalars, v):
  """Returns 1 / (sqrt(v) + epsilon), or one number for all of a matrix."""
  return _of_geometry(config, scalars, _roots(scalars, v)[1])


def _roots(scalars: TensorScalars, v):
  """Returns the root of the second moment, and 1 over it plus epsilon."""
  root = _root(v)
  return root, 1.0 / (root + scalars.epsilon)


def _of_geometry(config: OptimizerConfig, scalars: TensorScalars, inverse):
  if config.geometry == "orthogonal":
    return jnp.where(scalars.is_matrix, scalars.inverse_unit, inverse)
  return inverse


def direct(
  config: OptimizerConfig,
  scalars: TensorScalars,
  shared: Shared,
  reads,
  v,
  gradient,
  parameter,
  mask=None,
):
  """Returns the direction of every parameter; element-wise.

  Args:
    config: the optimizer.
    scalars: the tensor's scalars, broadcastable against it.
    shared: the step's shared scalars.
    reads: of the memory.
    v: second moment.
    gradient: from `scaled`.
    parameter: the parameters.
    mask: 1 where there is a parameter and 0 at padding, or None.
  """
  signals = (*reads, gradient)
  nominal = config.make_memory().nominal
  root, inverse = _roots(scalars, v)
  outer = _of_geometry(config, scalars, inverse)
  if shared.network is None:
    return signals[nominal] * outer
  high = direction.limit(inverse)
  units = [signal * inverse for signal in signals]
  features = [direction.clip(unit, high) for unit in units]
  nominal %= len(signals)
  base = units[nominal]
  if outer is not inverse:
    base = signals[nominal] * outer
  base = shared.read[nominal] * base
  for k, weight in enumerate(shared.read):
    if k != nominal:
      base = base + weight * features[k]
  found = direction.apply(
    shared.network,
    base,
    (
      *features,
      direction.clip(parameter * scalars.inverse_parameter, high),
      direction.clip(root * scalars.inverse_unit, high),
    ),
  )
  return found if mask is None else found * mask


class Products(NamedTuple):
  """Sums over the direction d that `after` needs: d d, and d times n."""

  direction: Any
  along: Any


def after(gains: Gains, sums: Products) -> StepScalars:
  """Turns sums over the direction into the length of the step.

  It works on scalars of one tensor, or on arrays of all.
  """
  trusted = jnp.isfinite(sums.direction) & (sums.along > 0)
  square = jnp.where(trusted, sums.direction / gains.size, 1.0)
  some = square > 0
  log_square = jnp.log(jnp.where(some, square, 1.0))
  length = gains.length * jnp.exp(0.5 * gains.power * log_square)
  moves = gains.finite & jnp.isfinite(length)
  return StepScalars(
    factor=jnp.where(moves & some, length, 0.0),
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


def apply_step(step: StepScalars, found, fallback, parameter):
  """Returns what is to be subtracted from the parameter; element-wise."""
  # The direction may be infinite: select, don't multiply by zero.
  chosen = jnp.where(step.trusted, found, fallback)
  return step.factor * chosen + step.decay * parameter


def _inverse(x):
  """Returns 1 / x, and 0 at 0, with finite derivatives."""
  some = x > 0
  return jnp.where(some, 1.0 / jnp.where(some, x, 1.0), 0.0)


@jax.custom_jvp
def _root(x):
  """The square root, with derivative 0 at 0: padding, and unused weights."""
  return jnp.sqrt(x)


@_root.defjvp
def _root_jvp(primals, tangents):
  (x,), (dx,) = primals, tangents
  positive = x > 0
  slope = jnp.where(positive, 0.5 / jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
  return _root(x), slope * dx
