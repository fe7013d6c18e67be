"""What a task costs, without running or compiling it.

Parameters come from abstract evaluation; floating-point operations are
counted in the jaxpr of loss and gradient: products and convolutions by
their sizes, everything else one per output element, loops by their length.

Main names: `num_parameters`, `count_flops`, `flops_per_step`.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tasks.base import Task


def num_parameters(task: Task) -> int:
  """Counts the trained parameters of a task."""
  shapes = jax.eval_shape(
    lambda key: task.init_with_state(key)[0], jax.random.key(0)
  )
  return sum(math.prod(x.shape) for x in jax.tree.leaves(shapes))


def flops_per_step(task: Task) -> int:
  """Counts operations of one loss and its gradient, data included."""
  key = jax.random.key(0)
  params, state = jax.eval_shape(task.init_with_state, key)

  def step(params: Any, state: Any, key: Any) -> Any:
    return jax.value_and_grad(task.loss_with_state, has_aux=True)(
      params, state, key, None
    )

  return count_flops(step, params, state, key)


def count_flops(fn: Callable, *args: Any) -> int:
  """Counts floating-point operations of `fn(*args)`.

  Args:
    fn: A function that jax can trace.
    *args: Arrays, or their shapes and dtypes.

  Returns:
    The count. A multiplication with addition counts two; of the branches of
    a conditional the dearest counts; a loop of unknown length counts once.
  """
  return _count(jax.make_jaxpr(fn)(*args).jaxpr)


def _count(jaxpr: Any) -> int:
  return sum(_count_equation(equation) for equation in jaxpr.eqns)


def _inner_jaxprs(equation: Any) -> list[Any]:
  """Returns the programs that an equation runs: loop bodies, branches."""
  found = []
  for value in equation.params.values():
    for item in value if isinstance(value, tuple | list) else (value,):
      item = getattr(item, "jaxpr", item)
      if hasattr(item, "eqns"):
        found.append(item)
  return found


def _count_equation(equation: Any) -> int:
  name = equation.primitive.name
  inner = [_count(jaxpr) for jaxpr in _inner_jaxprs(equation)]
  if name == "scan":
    return equation.params["length"] * sum(inner)
  if name == "cond":
    return max(inner, default=0)
  if inner:
    return sum(inner)
  size = sum(math.prod(v.aval.shape) for v in equation.outvars)
  if name == "dot_general":
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return 2 * size * math.prod(shape[axis] for axis in contracted)
  if name == "conv_general_dilated":
    kernel = equation.invars[1].aval.shape
    numbers = equation.params["dimension_numbers"]
    return 2 * size * math.prod(kernel) // kernel[numbers.rhs_spec[0]]
  return size if _is_arithmetic(equation) else 0


# Primitives that move numbers and compute none.
_MOVES = frozenset(
  {
    "broadcast_in_dim",
    "concatenate",
    "convert_element_type",
    "copy",
    "dynamic_slice",
    "gather",
    "iota",
    "pad",
    "reshape",
    "rev",
    "select_n",
    "slice",
    "split",
    "squeeze",
    "stop_gradient",
    "transpose",
  }
)


def _is_arithmetic(equation: Any) -> bool:
  dtype = equation.outvars[0].aval.dtype
  return (
    jnp.issubdtype(dtype, jnp.floating)
    and equation.primitive.name not in _MOVES
  )
