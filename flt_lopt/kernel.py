"""One step of the optimizer, the same for both layouts.

    gradient -> moments -> tokens -> controller -> memory -> direction -> step

The work is split by what it costs. Per tensor (cheap): `before` turns sums
over the gradient into this step's coefficients, `after` turns sums over the
direction into the step's length. Per parameter (all the cost): `direct`
updates the memory and evaluates the direction network in one pass, and
`apply_step` scales the result.

With n the nominal direction (Adam's), d = n + residual, p the parameters and
rms the root mean square over the tensor, the update is

    u = -eta s(t) [ exp(c) rms(p)**gamma rms(n)**rho d / rms(d) + w p ],

where eta is the learned step size, s the nominal schedule, c and w the
controller's log step and weight decay. At initialisation gamma = 0, rho = 1,
c = w = 0 and d = n: AdamW.

Safeguard: where d is not finite, or points away from n (their inner product
is negative), the tensor's step falls back to n. Where a tensor's gradient is
not finite, or so large that the sum of its squares exceeds 1e34, its update is
zero and its memory keeps its values. Where the parameters are so large that
the length of the step is not finite, the update is zero.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from flt_lopt import clock as clock_lib
from flt_lopt import controller as controller_lib
from flt_lopt import direction, memory, tokens
from flt_lopt.config import OptimizerConfig

TINY = 1e-30
#: Parameters smaller than this count as this large in relative steps.
MIN_PARAMETER = 1e-3
MIN_EXPONENT, MAX_EXPONENT = -0.5, 1.5
#: Of a tensor's squared gradients: beyond it the memory would overflow.
MAX_SUM_SQUARE = 1e34


class TensorState(NamedTuple):
  """What the optimizer keeps per tensor; every leaf is [tensors, ...].

  Attributes:
    mass: normaliser Z of each memory mode.
    mean_square: the second moment, averaged over the tensor, before division
      by its mass.
    stats: statistics of the step before.
    controller: the controller's attention state.
  """

  mass: Float[Array, "tensors modes"]
  mean_square: Float[Array, "tensors"]
  stats: tokens.Statistics
  controller: Any


class TensorScalars(NamedTuple):
  """Scalars of one tensor for `direct`; `memory` is its part that varies."""

  decay: tuple[Any, ...]
  write: tuple[Any, ...]
  inverse_mass: tuple[Any, ...]
  epsilon: Any
  root_mean_square: Any
  inverse_parameter: Any
  finite: Any


class Shared(NamedTuple):
  """What all tensors share in one step."""

  cosine: tuple[Any, ...]
  sine: tuple[Any, ...]
  read: tuple[Any, ...]
  network: direction.Weights


class Gains(NamedTuple):
  """What the step needs once the direction is known; [tensors] each."""

  log_step: Float[Array, "tensors"]
  weight_decay: Float[Array, "tensors"]
  finite: Bool[Array, "tensors"]
  stats: tokens.Statistics
  base: Float[Array, ""]


class StepScalars(NamedTuple):
  """Factors of one tensor for `apply_step`."""

  factor: Any
  trusted: Any
  decay: Any


def init_tensors(
  config: OptimizerConfig, num_tensors: int, dtype=jnp.float32
) -> TensorState:
  """Returns the per-tensor state before the first step."""
  spectrum = memory.make_spectrum(config.memory, config.memory_floats)
  return TensorState(
    mass=jnp.zeros((num_tensors, memory.num_modes(spectrum)), dtype),
    mean_square=jnp.zeros(num_tensors, dtype),
    stats=tokens.init_statistics(num_tensors, dtype),
    controller=controller_lib.init_state(config, num_tensors, dtype),
  )


def before(
  config: OptimizerConfig,
  theta,
  state: TensorState,
  sum_square: Float[Array, "tensors"],
  tensors,
  clock: clock_lib.Clock,
) -> tuple[TensorState, TensorScalars, Shared, Gains]:
  """Turns the sums of squared gradients into this step's coefficients."""
  spectrum = memory.make_spectrum(config.memory, config.memory_floats)
  modes = memory.num_modes(spectrum)
  dtype = sum_square.dtype
  sizes = jnp.asarray([max(t.size, 1) for t in tensors], dtype)
  finite = sum_square < MAX_SUM_SQUARE
  square = jnp.where(finite, sum_square, 0.0) / sizes

  shapes = tokens.shape_features(tensors, dtype)
  token = tokens.tokens(state.stats, shapes, clock)
  control, attention = controller_lib.step(
    config, theta.get("controller"), state.controller, token, clock, modes
  )
  decay, write, mass = memory.step_mass(
    spectrum, theta["memory"], state.mass, control.rate_gate, control.write_gate
  )
  # A skipped tensor keeps its memory: decay 1, write 0, mass as before.
  alive = finite[:, None]
  decay = jnp.where(alive, decay, 1.0)
  write = jnp.where(alive, write, 0.0)
  mass = jnp.where(alive, mass, state.mass)
  mean_square = decay[:, -1] * state.mean_square + write[:, -1] * square
  inverse = 1.0 / jnp.maximum(mass, TINY)

  root = jnp.sqrt(mean_square * inverse[:, -1] + TINY)
  unit = root if config.epsilon_mode == "relative" else jnp.ones_like(root)
  size = _root(state.stats.parameter)
  # Not max(size, TINY), whose inverse has no finite derivative at 0.
  some = size > 0
  inverse_size = jnp.where(some, 1.0 / jnp.where(some, size, 1.0), 0.0)

  def columns(x):
    return tuple(x[:, k] for k in range(modes))

  scalars = TensorScalars(
    decay=columns(decay),
    write=columns(write),
    inverse_mass=columns(inverse),
    epsilon=jnp.maximum(config.epsilon * unit, TINY),
    root_mean_square=root,
    inverse_parameter=inverse_size,
    finite=finite,
  )
  angle = 2 * jnp.pi * memory.phases(spectrum, theta["memory"], clock.count)
  shared = Shared(
    cosine=tuple(jnp.cos(angle)),
    sine=tuple(jnp.sin(angle)),
    read=tuple(theta["memory"]["read"]),
    network=direction.unpack(
      theta["direction"],
      memory.num_reads(spectrum),
      clock_lib.features(clock),
    ),
  )
  base = config.init_learning_rate * jnp.exp(theta["step"]["log_rate"])
  gains = Gains(
    log_step=control.log_step,
    weight_decay=control.weight_decay,
    finite=finite,
    stats=state.stats,
    base=base * clock_lib.nominal_schedule(clock),
  )
  new = TensorState(mass, mean_square, state.stats, attention)
  return new, scalars, shared, gains


class Directions(NamedTuple):
  """Per-parameter results of `direct` and their products to be summed."""

  modes: tuple[Any, ...]
  nominal: Any
  direction: Any
  products: dict[str, Any]


def direct(
  config: OptimizerConfig,
  scalars: TensorScalars,
  shared: Shared,
  modes,
  gradient,
  parameter,
  mask=None,
) -> Directions:
  """Updates the memory and finds the direction; element-wise.

  Args:
    config: the optimizer.
    scalars: the tensor's scalars, broadcastable against it.
    shared: the step's shared scalars.
    modes: memory of the tensor.
    gradient: float array of the tensor's shape.
    parameter: likewise.
    mask: 1 where there is a parameter and 0 at padding, or None.
  """
  spectrum = memory.make_spectrum(config.memory, config.memory_floats)
  gradient = jnp.where(scalars.finite, gradient, 0.0)
  coefficients = memory.Coefficients(
    decay=scalars.decay,
    write=scalars.write,
    inverse_mass=scalars.inverse_mass,
    cosine=shared.cosine,
    sine=shared.sine,
  )
  modes, reads, second = memory.advance(spectrum, modes, gradient, coefficients)
  root = _root(second)
  inverse = 1.0 / (root + scalars.epsilon)
  reads = [read * inverse for read in reads]
  unit_gradient = gradient * inverse
  unit_parameter = parameter * scalars.inverse_parameter
  relative = root / (root + scalars.root_mean_square)

  nominal = shared.read[0] * reads[0]
  for weight, read in zip(shared.read[1:], reads[1:], strict=True):
    nominal = nominal + weight * read
  residual = direction.residual(
    shared.network, (*reads, unit_gradient, unit_parameter, relative)
  )
  if mask is not None:
    residual = residual * mask
  chosen = nominal + residual
  fast, slow = reads[0], reads[min(1, len(reads) - 1)]
  products = dict(
    gradient=unit_gradient * unit_gradient,
    fast=fast * fast,
    slow=slow * slow,
    gradient_fast=unit_gradient * fast,
    fast_slow=fast * slow,
    nominal=nominal * nominal,
    direction=chosen * chosen,
    nominal_direction=nominal * chosen,
    parameter=parameter * parameter,
  )
  return Directions(modes, nominal, chosen, products)


def after(
  theta,
  state: TensorState,
  gains: Gains,
  sums: dict[str, Float[Array, "tensors"]],
  tensors,
  weight_decay: Float[Array, "tensors"] | float = 0.0,
) -> tuple[TensorState, StepScalars]:
  """Turns the sums of products into the length of the step.

  Args:
    theta: meta-parameters.
    state: per-tensor state from `before`.
    gains: from `before`.
    sums: the summed `Directions.products`.
    tensors: static facts.
    weight_decay: the user's decoupled weight decay.
  """
  dtype = state.mass.dtype
  sizes = jnp.asarray([max(t.size, 1) for t in tensors], dtype)
  mean = {name: total / sizes for name, total in sums.items()}
  trusted = jnp.isfinite(mean["direction"])
  trusted &= mean["nominal_direction"] >= 0
  square = jnp.where(trusted, mean["direction"], mean["nominal"])
  exponents = theta["step"]["exponents"]
  gamma = jnp.clip(exponents[0], MIN_EXPONENT, MAX_EXPONENT)
  rho = jnp.clip(1.0 + exponents[1], MIN_EXPONENT, MAX_EXPONENT)
  size = jnp.sqrt(mean["parameter"] + MIN_PARAMETER**2)
  log_length = gamma * jnp.log(size)
  log_length += 0.5 * (
    rho * jnp.log(mean["nominal"] + TINY) - jnp.log(square + TINY)
  )
  length = gains.base * jnp.exp(gains.log_step + log_length)
  moved = gains.finite & (square > 0) & jnp.isfinite(length)
  factor = jnp.where(moved, length, 0.0)
  decay = gains.base * (gains.weight_decay + weight_decay)
  step = StepScalars(
    factor=factor,
    trusted=trusted,
    decay=jnp.where(gains.finite & jnp.isfinite(length), decay, 0.0),
  )
  stats = tokens.Statistics(
    update=jnp.where(moved, factor * factor * square, gains.stats.update),
    **{
      name: jnp.where(gains.finite & jnp.isfinite(value), value, old)
      for name, value in mean.items()
      for old in [getattr(gains.stats, name)]
    },
  )
  return state._replace(stats=stats), step


def apply_step(step: StepScalars, found: Directions, parameter):
  """Returns what is to be subtracted from the parameter; element-wise."""
  # A fallback's direction may be infinite: select, don't multiply by zero.
  chosen = jnp.where(step.trusted, found.direction, found.nominal)
  return step.factor * chosen + step.decay * parameter


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
