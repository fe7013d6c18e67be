"""The learned optimizer: its meta-parameters, and what can be made of them."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from flt_lopt import controller, direction, memory, transform
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

  @property
  def spectrum(self) -> memory.Spectrum:
    """The modes of the per-parameter memory."""
    return memory.make_spectrum(self.config.memory, self.config.memory_floats)

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
  ) -> optax.GradientTransformationExtraArgs:
    """Returns the optimizer with meta-parameters `theta` for optax.

    Args:
      theta: from `init` or `flt_lopt.load`.
      num_steps: length of the run in steps, possibly a traced value; `None`
        where it is not known, and then no schedule ends.
      learning_rate: multiplier of every update, a number or an optax
        schedule; 1 leaves the learned step size as it is.
      weight_decay: strength of decoupled weight decay as in `optax.adamw`,
        in units of the learned step size and nominal schedule.
      mask: pytree of booleans (or a function of the parameters to one) that
        says which tensors decay; `None` is all.

    Returns:
      A gradient transformation whose updates are to be added. Statistics are
      float32, or float64 where a parameter is.

    Raises:
      ValueError: at `init` or `update`, for parameters that are not real
        floating-point numbers, or are not given.
    """
    scaled = transform.scale_by_learned(
      self.config,
      theta,
      num_steps=num_steps,
      weight_decay=weight_decay,
      mask=mask,
    )
    return transform.scale_by_schedule_of(scaled, learning_rate)

  def reference(
    self, *, num_steps: int | None = None, weight_decay: float = 0.0
  ) -> optax.GradientTransformation:
    """Returns the optax optimizer that this one is before meta-training."""
    schedule = reference_schedule(num_steps)
    return optax.adamw(
      lambda count: self.config.init_learning_rate * schedule(count),
      b1=0.9,
      b2=0.999,
      eps=self.config.epsilon,
      weight_decay=weight_decay,
    )

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
    return {
      **memory.kernels(self.spectrum, theta["memory"], lags),
      **controller.kernels(self.config, theta.get("controller", {}), lags),
    }


@functools.partial(jax.jit, static_argnums=0)
def _init(config: OptimizerConfig, key):
  spectrum = memory.make_spectrum(config.memory, config.memory_floats)
  direction_key, controller_key = jax.random.split(key)
  theta = {
    "memory": memory.init(spectrum),
    "direction": direction.init(
      direction_key, memory.num_reads(spectrum), config.hidden_units
    ),
    "step": {
      "log_rate": jnp.zeros([], jnp.float32),
      "exponents": jnp.zeros(2, jnp.float32),
    },
  }
  if config.controller != "off":
    theta["controller"] = controller.init(
      config, memory.num_modes(spectrum), controller_key
    )
  return theta


def reference_schedule(num_steps: int | None) -> optax.Schedule:
  """Returns `flt_lopt.clock.nominal_schedule` in optax's terms."""
  if num_steps is None:
    return optax.warmup_constant_schedule(1.0 / 101.0, 1.0, 100)
  warmup = num_steps // 20
  return optax.warmup_cosine_decay_schedule(
    1.0 / (warmup + 1.0), 1.0, warmup, num_steps, 0.01
  )
