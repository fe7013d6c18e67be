"""What a user hands to the transformation: checked, and tensor by tensor.

Whatever can't be used is refused with the value, the rule and the remedy,
before it becomes an error about shapes inside a compiled step.

Main names: `check_num_steps`, `check_number`, `check_theta`, `work_dtype`,
`gradients`, `roles`, `decay_per_tensor`.
"""

import functools
import reprlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from flt_lopt import kernel
from flt_lopt import roles as roles_lib
from flt_lopt.config import OptimizerConfig

#: The clock counts in int32.
MAX_STEPS = 2**31 - 1


def work_dtype(leaves):
  """Returns float64 if a parameter is, otherwise float32."""
  # As jax will hold them: without x64, NumPy's float64 is float32.
  dtypes = [jnp.result_type(leaf) for leaf in leaves]
  for dtype in dtypes:
    if not jnp.issubdtype(dtype, jnp.floating):
      raise ValueError(
        f"a parameter has dtype {dtype}, but learned optimizers take real "
        "floating-point parameters; split complex ones into real and imaginary "
        "parts and leave others out with optax.masked."
      )
  wide = any(dtype == jnp.float64 for dtype in dtypes)
  return jnp.dtype(jnp.float64 if wide else jnp.float32)


@functools.cache
def _theta_shapes(config: OptimizerConfig) -> dict[str, tuple[int, ...]]:
  theta = jax.eval_shape(
    functools.partial(kernel.init_theta, config), jax.random.key(0)
  )
  return _shapes(theta)


def _shapes(tree) -> dict[str, tuple[int, ...]]:
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): jnp.shape(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def check_theta(config: OptimizerConfig, theta) -> None:
  """Refuses meta-parameters that are not of the configuration."""
  wanted, given = _theta_shapes(config), _shapes(theta)
  for name in sorted(wanted.keys() | given.keys()):
    if wanted.get(name) != given.get(name):
      raise ValueError(
        f"theta is not of this configuration: {name} has shape "
        f"{given.get(name, 'none')} instead of {wanted.get(name, 'none')}; "
        "give the configuration that theta was made or loaded with."
      )


def check_num_steps(num_steps) -> None:
  """Refuses a given number that can't be a count of steps."""
  if num_steps is None:
    return
  try:
    kind, shape = jnp.result_type(num_steps), jnp.shape(num_steps)
  except (TypeError, OverflowError):
    kind, shape = jnp.dtype(bool), ()
  is_number = shape == () and jnp.issubdtype(kind, jnp.number)
  if is_number and isinstance(num_steps, jax.core.Tracer):
    return  # What is traced says its value only later.
  is_count = is_number and 1 <= num_steps <= MAX_STEPS
  if not is_count or num_steps != num_steps // 1:
    raise ValueError(
      f"num_steps={reprlib.repr(num_steps)} must be a whole number of steps, "
      f"from 1 to {MAX_STEPS}, or None where it is not known; a learning rate "
      "is given as learning_rate=, and 1.0 is the learned one."
    )


def check_number(name: str, value) -> None:
  """Refuses what is neither a number nor a schedule.

  Args:
    name: of the argument.
    value: what was given.

  Raises:
    ValueError: it is something else.
  """
  if callable(value):
    return
  try:
    # Some texts name a dtype, and None counts as a float.
    is_none = value is None or isinstance(value, str | bytes)
    kind = jnp.dtype(bool) if is_none else jnp.result_type(value)
    shape = () if is_none else jnp.shape(value)
  except (TypeError, OverflowError):
    kind, shape = jnp.dtype(bool), ()
  if shape or not jnp.issubdtype(kind, jnp.number):
    raise ValueError(
      f"{name}={reprlib.repr(value)} must be a number or an optax schedule."
    )


def _is_function(chosen) -> bool:
  """Tells a function from a pytree, which may have a `__call__` of its own.

  It is optax's rule: an Equinox module of booleans is a mask.
  """
  leaves = jax.tree.leaves(chosen)
  return bool(leaves) and all(callable(leaf) for leaf in leaves)


def _of_leaves(name: str, chosen, params) -> list[Any]:
  """Returns what a tree, or a function to one, says of every parameter.

  A leaf of it may stand for a whole part of the parameters.

  Raises:
    ValueError: it is of another structure.
  """
  chosen = chosen(params) if _is_function(chosen) else chosen
  try:
    spread = jax.tree.map(
      lambda what, part: jax.tree.map(lambda _: what, part), chosen, params
    )
  except ValueError as error:
    first, *_ = str(error).splitlines() or [""]
    raise ValueError(
      f"{name} must be a tree like that of the parameters, or the upper part "
      f"of one: {first}"
    ) from error
  return jax.tree.leaves(spread)


def roles(chosen, params) -> tuple[str, ...]:
  """Returns the role of every parameter, by name where nothing is chosen."""
  if chosen is None:
    return tuple(roles_lib.roles(params))
  found = _of_leaves("roles", chosen, params)
  for role in found:
    if role not in roles_lib.ROLES:
      raise ValueError(
        f"role {reprlib.repr(role)} is not one of those of flt_lopt.roles: "
        f"{', '.join(map(repr, roles_lib.ROLES))}."
      )
  return tuple(found)


def gradients(updates, split, params):
  """Returns the gradient of every parameter.

  Raises:
    ValueError: a parameter has none, or one of another shape or kind.
  """
  found = split(updates)
  for gradient, (path, parameter) in zip(
    found, jax.tree_util.tree_leaves_with_path(params), strict=True
  ):
    name = jax.tree_util.keystr(path)
    if gradient is None:
      raise ValueError(
        f"the gradient of params{name} is None, but that parameter is an "
        "array; give zeros, leave it out of both trees with None, or wrap the "
        "optimizer in optax.masked."
      )
    shape, dtype = jnp.shape(gradient), jnp.result_type(gradient)
    if shape != jnp.shape(parameter) or jnp.iscomplexobj(gradient):
      raise ValueError(
        f"the gradient of params{name} has shape {shape} and dtype {dtype}, "
        f"but that parameter has shape {jnp.shape(parameter)} and is real; "
        "give the gradient of the loss with respect to the parameters."
      )
  return [jnp.asarray(gradient) for gradient in found]


def decay_per_tensor(weight_decay, mask, params, dtype) -> Float[Array, "n"]:
  """Returns the weight decay of every leaf, 0 where the mask is false.

  Raises:
    ValueError: the mask is of another structure, or not of booleans.
  """
  if mask is None:
    count = len(jax.tree.leaves(params))
    return jnp.full(count, jnp.asarray(weight_decay).astype(dtype))
  kept = _of_leaves("mask", mask, params)
  for keep in kept:
    if jnp.shape(keep) or np.asarray(keep).dtype != bool:
      raise ValueError(
        f"mask holds {reprlib.repr(keep)}, but must say True or False of every "
        "parameter."
      )
  decay = jnp.asarray(weight_decay).astype(dtype)
  return jnp.asarray([bool(keep) for keep in kept], dtype) * decay
