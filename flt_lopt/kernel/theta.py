"""The meta-parameters at the start, and the second moment's learned rate.

Main names: `init_theta`, `square_rate`, `square_kernel`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flt_lopt import _promotion, direction
from flt_lopt import controller as controller_lib
from flt_lopt.config import OptimizerConfig
from flt_lopt.memory import poles as poles_lib
from flt_lopt.memory.poles import ema

SQUARE_POLE = ema(0.999)


def init_theta(config: OptimizerConfig, key) -> dict[str, Any]:
  """Returns theta, at which the optimizer is its reference.

  It is float32 whatever jax's settings of precision and promotion are, so
  that weights that were made under one can be used under the others.
  """
  with _promotion.usual():
    theta = _init_parts(config, key)
  return jax.tree.map(lambda x: x.astype(jnp.float32), theta)


def _init_parts(config: OptimizerConfig, key) -> dict[str, Any]:
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
    step["matrix_log_rate"] = jnp.zeros([], jnp.float32)
    # Gamma and rho of vectors and scalars, and of matrices.
    step["exponents"] = jnp.zeros((2, 2), jnp.float32)
    step["caution"] = jnp.zeros([], jnp.float32)
    # Likewise of vectors and scalars, and of matrices.
    step["depth_exponent"] = jnp.zeros(2, jnp.float32)
    step["length_exponent"] = jnp.zeros(2, jnp.float32)
  if config.has_network:
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


def square_rate(theta) -> Float[Array, ""]:
  """Returns alpha per step of the second moment."""
  offset = theta.get("log_square_rate", jnp.zeros([]))
  return poles_lib.rates([SQUARE_POLE], offset[None])[0]


def square_kernel(theta, lags: Float[Array, "lags"]) -> Float[Array, "lags"]:
  """Returns the weight of the squared gradient of `lags` steps ago."""
  alpha = square_rate(theta)
  return -jnp.expm1(-alpha) * jnp.exp(-alpha * lags)
