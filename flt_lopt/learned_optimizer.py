"""The learned optimizer: its meta-parameters, and what can be made of them."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from flt_lopt import controller, kernel, references, transform
from flt_lopt.config import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class LearnedOptimizer:
  """A family of optimizers, indexed by meta-parameters theta.

  Example:
    >>> lopt = LearnedOptimizer(OptimizerConfig())
    >>> theta = lopt.init(jax.random.key(0))
    >>> tx = lopt.transform(theta, num_steps=1000)

  Attributes:
    config: what is learned and how much memory it has.
  """

  config: OptimizerConfig = OptimizerConfig()

  def init(self, key) -> dict[str, Any]:
    """Returns theta, at which the optimizer is `reference`.

    Args:
      key: typed PRNG key; it sets the hidden weights of the networks, whose
        last layers are zero.
    """
    return _init(self.config, key)

  def transform(
    self,
    theta,
    *,
    num_steps=None,
    learning_rate=1.0,
    weight_decay=0.0,
    mask=None,
    roles=None,
  ) -> optax.GradientTransformationExtraArgs:
    """Returns the optimizer with meta-parameters `theta` for optax.

    The equations of a step, and what happens to a gradient that is not
    finite or a direction that can't be trusted, are in `flt_lopt.kernel`.

    Args:
      theta: from `init` or `flt_lopt.load`.
      num_steps: length of the run in steps, possibly a traced value; `None`
        where it is not known, and then no schedule ends.
      learning_rate: multiplier of every update, a number or an optax
        schedule; 1 leaves the learned step size as it is.
      weight_decay: strength of decoupled weight decay as in `optax.adamw`,
        a number or an optax schedule, in units of the learned step size and
        nominal schedule.
      mask: pytree of booleans (or a function of the parameters to one) that
        says which tensors decay; `None` is all.
      roles: pytree of the names in `flt_lopt.roles.ROLES` (or a function of
        the parameters to one) that says what tensors are; `None` is by their
        names.

    Returns:
      A gradient transformation whose updates are to be added. Statistics are
      float32, or float64 where a parameter is. Its `update` takes the
      training loss of the step as `value=`, a scalar, where there is one: the
      controller sees whether it falls, and not its scale. Other extra
      arguments are ignored.

    Raises:
      ValueError: theta is not of this configuration; `num_steps` is no whole
        number of steps, at least 1; or, at `init` or `update`, parameters are
        not real floating-point numbers or are not given, a gradient is missing
        or of another shape, the state is of others, a role is unknown, or
        `value` is no scalar.
    """
    scaled = transform.scale_by_learned(
      self.config,
      theta,
      num_steps=num_steps,
      weight_decay=weight_decay,
      mask=mask,
      roles=roles,
    )
    return transform.scale_by_schedule_of(scaled, learning_rate)

  def reference(
    self, *, num_steps: int | None = None, weight_decay: float = 0.0
  ) -> optax.GradientTransformation:
    """Returns the optax optimizer that this one is before meta-training.

    It has no `gradient_limit`, so it is the same while no gradient is beyond
    that.

    Args:
      num_steps: as for `transform`.
      weight_decay: likewise.
    """
    return references.reference(self.config, num_steps, weight_decay)

  def state_bytes(self, params) -> int:
    """Returns the bytes of the optimizer's state for such parameters.

    Args:
      params: arrays or `jax.ShapeDtypeStruct`s.
    """
    tx = self.transform(jax.eval_shape(self.init, jax.random.key(0)))
    state = jax.eval_shape(tx.init, params)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))

  def timestep_kernels(
    self, theta, lags: Float[Array, "lags"]
  ) -> dict[str, Float[Array, "lags"]]:
    """Returns all learned weights over the lag in optimization steps.

    The entry `"direction"` is the encoding h that the nominal direction is
    made with, then come the memory's modes at unit mass, then what position
    does to the controller's attention (see `flt_lopt.controller.kernels`).

    Args:
      theta: meta-parameters.
      lags: ages in steps.
    """
    lags = jnp.asarray(lags, jnp.float32)
    bank = self.config.make_memory()
    curves = bank.kernels(theta["memory"], lags)
    read = theta["memory"].get("read")
    if read is None:
      read = jnp.zeros(bank.num_reads + 1).at[bank.nominal].set(1.0)
    now = (lags == 0).astype(jnp.float32)
    parts = [*curves.values()][: bank.num_reads] + [now]
    total = sum(c * part for c, part in zip(read, parts, strict=True))
    pole = kernel.SQUARE_POLE
    return {
      "direction": total,
      **curves,
      f"g squared, {pole.label}": kernel.square_kernel(theta["memory"], lags),
      **controller.kernels(self.config, theta.get("controller", {}), lags),
    }

  def time_scales(self, theta) -> dict[str, float]:
    """Returns the learned time constants and frequencies by name.

    Time constants are in steps, or in units of a pole's own coordinate;
    frequencies in cycles per step.

    Args:
      theta: meta-parameters.
    """
    return {
      name: float(value)
      for name, value in self.config.make_memory()
      .time_scales(theta["memory"])
      .items()
    } | {
      "time_constant/g squared": float(
        1.0 / kernel.square_rate(theta["memory"])
      )
    }


@functools.partial(jax.jit, static_argnums=0)
def _init(config: OptimizerConfig, key):
  return kernel.init_theta(config, key)
