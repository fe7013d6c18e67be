"""The optax optimizer that an untrained learned optimizer is.

    memory              nominal direction     reference
    a decaying pole     its reading           AdamW with that beta
    none, flt           the gradient          AdamW with b1 = 0
    nesterov            the reading ahead     NAdamW
    normalized          on matrices           Adam's direction, its RMS fixed
    orthogonal          on matrices           Muon, AdamW for the rest
    factored            v from its factors    AdamW, v replaced on matrices

all with b2 = 0.999 and the nominal schedule of `flt_lopt.clock`. The
safeguards of `flt_lopt.kernel`, such as for gradients that become zero or
aren't finite, are no part of them.

Main names: `reference`, `reference_schedule`.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from flt_lopt import geometry, layout
from flt_lopt.config import OptimizerConfig
from flt_lopt.memory import second_moment

B2 = 0.999


def reference(
  config: OptimizerConfig, num_steps: int | None, weight_decay: float
) -> optax.GradientTransformation:
  """Returns the reference of a configuration; see the module's docstring."""
  bank = config.make_memory()
  poles = getattr(bank, "poles", None)
  b1 = 0.0
  if bank.nominal >= 0:
    b1 = 0.9 if poles is None else math.exp(-poles[0].rate)
  schedule = reference_schedule(num_steps)

  def rate(count):
    return config.init_learning_rate * schedule(count)

  if config.geometry == "orthogonal":
    return optax.contrib.muon(
      rate,
      beta=b1,
      eps=config.epsilon,
      nesterov=config.nesterov,
      weight_decay=weight_decay,
      adam_b1=b1,
      adam_b2=B2,
      adam_weight_decay=weight_decay,
      muon_weight_dimension_numbers=lambda params: _map_with_info(
        lambda info, _: geometry.muon_dimensions(info), params
      ),
    )
  factored = config.second_moment == "factored"
  if config.geometry == "elementwise" and not factored:
    return optax.adamw(
      rate,
      b1=b1,
      b2=B2,
      eps=config.epsilon,
      weight_decay=weight_decay,
      nesterov=config.nesterov,
    )
  if factored:
    adam = scale_by_factored_adam(
      b1, B2, config.epsilon, nesterov=config.nesterov
    )
  else:
    adam = optax.scale_by_adam(b1, B2, config.epsilon, nesterov=config.nesterov)
  normalize = optax.stateless(lambda updates, _: _normalize(updates))
  return optax.chain(
    adam,
    normalize if config.geometry == "normalized" else optax.identity(),
    optax.add_decayed_weights(weight_decay),
    optax.scale_by_learning_rate(rate),
  )


def _map_with_info(f, tree):
  """Maps f(facts of the tensor, leaf) over a tree."""
  leaves, structure = jax.tree.flatten(tree)
  found = map(f, layout.infos(tree), leaves)
  return jax.tree.unflatten(structure, list(found))


def _normalize(updates):
  """Gives the updates of matrices the RMS of `flt_lopt.geometry`, at most."""

  def one(info, x):
    if not geometry.is_matrix(info):
      return x
    inputs = geometry.fan_in(info)
    rms = jnp.sqrt(jnp.maximum(jnp.mean(x * x), geometry.MIN_DIRECTION**2))
    return x / (rms * max(inputs, inputs**2 / geometry.NARROW) ** 0.5)

  return _map_with_info(one, updates)


def reference_schedule(num_steps: int | None) -> optax.Schedule:
  """Returns `flt_lopt.clock.nominal_schedule` in optax's terms."""
  if num_steps is None:
    return optax.warmup_constant_schedule(1.0 / 101.0, 1.0, 100)
  warmup = num_steps // 20
  return optax.warmup_cosine_decay_schedule(
    1.0 / (warmup + 1.0), 1.0, warmup, num_steps, 0.01
  )


class FactoredAdamState(NamedTuple):
  """State of `scale_by_factored_adam`; both moments are whole."""

  count: jax.Array  # type: ignore[assignment]
  mu: optax.Updates
  nu: optax.Updates


def scale_by_factored_adam(
  b1: float, b2: float, eps: float, *, nesterov: bool = False
) -> optax.GradientTransformation:
  """Returns Adam whose second moment, on matrices, is that of its factors.

  Averaging over time and over rows commute, so whole moments, factored when
  they are read, give the same numbers as averages of factors. It serves as
  the reference of `second_moment="factored"` and saves no memory. Directions
  are limited as in `flt_lopt.memory.second_moment`.

  Args:
    b1: decay of the first moment.
    b2: decay of the second.
    eps: added to its root.
    nesterov: whether the first moment looks a step ahead, as in
      `optax.scale_by_adam`.
  """

  def init(params):
    zeros = optax.tree.zeros_like(params)
    return FactoredAdamState(jnp.zeros([], jnp.int32), zeros, zeros)

  def factored(v):
    if v.ndim < 2:
      return v
    rows = jnp.mean(v, axis=-1, keepdims=True)
    columns = jnp.mean(v, axis=-2, keepdims=True)
    mean = jnp.mean(v, axis=(-2, -1), keepdims=True)
    return rows * columns / jnp.maximum(mean, 1e-38)

  def update(updates, state, params=None):
    del params
    count = optax.safe_increment(state.count)
    mu = optax.tree.update_moment(updates, state.mu, b1, 1)
    nu = optax.tree.update_moment(updates, state.nu, b2, 2)
    mu_hat = optax.tree.bias_correction(mu, b1, count)
    if nesterov:
      after = optax.tree.bias_correction(mu, b1, optax.safe_increment(count))
      now = optax.tree.bias_correction(updates, b1, count)
      mu_hat = jax.tree.map(lambda m, g: b1 * m + (1.0 - b1) * g, after, now)
    nu_hat = jax.tree.map(factored, optax.tree.bias_correction(nu, b2, count))
    limit = second_moment.MAX_DIRECTION
    moved = jax.tree.map(
      lambda m, v: jnp.clip(m / (jnp.sqrt(v) + eps), -limit, limit),
      mu_hat,
      nu_hat,
    )
    return moved, FactoredAdamState(count, mu, nu)

  return optax.GradientTransformation(init, update)
