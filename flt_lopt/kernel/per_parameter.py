"""What a step computes for every parameter: all of its cost.

`advance` and `advance_second` update the memory, `direct` evaluates the
direction network, and `apply_step` scales the result.

Main names: `scaled`, `advance`, `advance_second`, `direct`, `nominal_terms`,
`fallback`, `apply_step`.
"""

import jax.numpy as jnp

from flt_lopt import direction, memory
from flt_lopt.config import OptimizerConfig
from flt_lopt.kernel import roots
from flt_lopt.kernel.quantities import Shared, StepScalars, TensorScalars


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


def fallback(config: OptimizerConfig, scalars: TensorScalars, signal, v):
  """Returns Adam's direction, in which a signal is divided by sqrt(v).

  Matrices that are made orthogonal are divided by one number instead.

  Args:
    config: the optimizer.
    scalars: the tensor's scalars, broadcastable against it.
    signal: the nominal reading.
    v: second moment.
  """
  return _divided(config, scalars, signal, _roots(scalars, v)[1])


def _roots(scalars: TensorScalars, v):
  """Returns the root of the second moment, and 1 over it plus epsilon."""
  root = roots.root(v)
  return root, 1.0 / (root + scalars.epsilon)


def _divided(config: OptimizerConfig, scalars: TensorScalars, signal, inverse):
  found = config.make_second_moment().limit(signal * inverse)
  if config.geometry == "orthogonal":
    whole = signal * scalars.inverse_unit
    return jnp.where(scalars.is_matrix, whole, found)
  return found


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
  base = _divided(config, scalars, signals[nominal], inverse)
  if not shared.read:
    return base
  high = direction.limit(inverse)
  units = [signal * inverse for signal in signals]
  features = [direction.clip(unit, high) for unit in units]
  nominal %= len(signals)
  base = shared.read[nominal] * base
  for k, weight in enumerate(shared.read):
    if k != nominal:
      base = base + weight * features[k]
  found = base
  if shared.network is not None:
    found = direction.apply(
      shared.network,
      base,
      (
        *features,
        direction.clip(parameter * scalars.inverse_parameter, high),
        direction.clip(root * scalars.inverse_unit, high),
      ),
    )
  against = found * gradient < 0.0
  found = jnp.where(against, (1.0 - shared.caution) * found, found)
  return found if mask is None else found * mask


def apply_step(step: StepScalars, found, fallback, parameter):
  """Returns what is to be subtracted from the parameter; element-wise."""
  # The direction may be infinite: select, don't multiply by zero.
  chosen = jnp.where(step.trusted, found, fallback)
  return step.factor * chosen + step.decay * parameter
