"""The learned optimizer as an optax gradient transformation."""

import functools
import reprlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from flt_lopt import clock as clock_lib
from flt_lopt import kernel, leafwise
from flt_lopt import progress as progress_lib
from flt_lopt import roles as roles_lib
from flt_lopt.config import OptimizerConfig

# One program, so that it is quick without an outer jit too; one per
# configuration, since `optax.inject_hyperparams` makes a transformation per
# step.
_step = jax.jit(leafwise.step, static_argnums=(0, 1))

#: The clock counts in int32.
MAX_STEPS = 2**31 - 1


class FltState(NamedTuple):
  """State of a run.

  Attributes:
    count: finished steps.
    modes: the memory of the gradient; each entry is a pytree like the
      parameters, so that it can be sharded like them.
    second: the second moment, one such pytree, or two that hold row and
      column factors of matrices. A factor lacks one axis of its parameter:
      `optax.tree.map_params` visits it beside that parameter's entry even
      so, and a `PartitionSpec` of the parameter doesn't fit it.
    tensors: a few numbers per parameter tensor, leaves of [tensors, ...].
    progress: averages of the loss, where it is given.
  """

  count: Int[Array, ""]  # type: ignore[assignment]
  modes: tuple[Any, ...]
  second: tuple[Any, ...]
  tensors: kernel.TensorState
  progress: progress_lib.Progress


def _work_dtype(leaves):
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
def _tensors_structure(config: OptimizerConfig):
  return jax.tree.structure(
    jax.eval_shape(lambda: kernel.init_tensors(config, 1, jnp.float32))
  )


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


def _check_theta(config: OptimizerConfig, theta) -> None:
  """Refuses meta-parameters that are not of the configuration."""
  wanted, given = _theta_shapes(config), _shapes(theta)
  for name in sorted(wanted.keys() | given.keys()):
    if wanted.get(name) != given.get(name):
      raise ValueError(
        f"theta is not of this configuration: {name} has shape "
        f"{given.get(name, 'none')} instead of {wanted.get(name, 'none')}; "
        "give the configuration that theta was made or loaded with."
      )


def _check_num_steps(num_steps) -> None:
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


def _is_function(chosen) -> bool:
  """Tells a function from a pytree, which may have a `__call__` of its own.

  It is optax's rule: an Equinox module of booleans is a mask.
  """
  leaves = jax.tree.leaves(chosen)
  return bool(leaves) and all(callable(leaf) for leaf in leaves)


def _of_leaves(chosen, params) -> list[Any]:
  """Returns what a tree, or a function to one, says of every parameter.

  A leaf of it may stand for a whole part of the parameters.
  """
  chosen = chosen(params) if _is_function(chosen) else chosen
  spread = jax.tree.map(
    lambda what, part: jax.tree.map(lambda _: what, part), chosen, params
  )
  return jax.tree.leaves(spread)


def _roles(chosen, params) -> tuple[str, ...]:
  """Returns the role of every parameter, by name where nothing is chosen."""
  if chosen is None:
    return tuple(roles_lib.roles(params))
  found = _of_leaves(chosen, params)
  for role in found:
    if role not in roles_lib.ROLES:
      raise ValueError(
        f"role {reprlib.repr(role)} is not one of those of flt_lopt.roles: "
        f"{', '.join(map(repr, roles_lib.ROLES))}."
      )
  return tuple(found)


def _columns(config: OptimizerConfig, state, split, params):
  """Returns the memory and the second moment of every parameter.

  Raises:
    ValueError: the state is of other parameters or of another optimizer.
  """
  wanted = list(map(jnp.shape, jax.tree.leaves(params)))
  num_modes = config.make_memory().num_floats
  num_second = config.make_second_moment().num_arrays
  try:
    tensors = jax.tree.structure(state.tensors)
    modes = [split(tree) for tree in state.modes]
    second = [split(tree) for tree in state.second]
    shapes = [list(map(jnp.shape, tree)) for tree in modes]
  except (AttributeError, TypeError, ValueError):
    modes, second, shapes, tensors = [], [], [], None
  fits = (len(modes), len(second), tensors) == (
    num_modes,
    num_second,
    _tensors_structure(config),
  )
  if not fits or any(each != wanted for each in shapes):
    raise ValueError(
      "the state is not of this optimizer and of parameters of the shapes "
      f"{reprlib.repr(wanted)}; make it by init(params), or restore it into "
      "what init returns."
    )
  count = len(wanted)
  return _transposed(modes, count), _transposed(second, count)


def _gradients(updates, split, params):
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


def _decay_per_tensor(weight_decay, mask, params, dtype) -> Float[Array, "n"]:
  """Returns the weight decay of every leaf, 0 where the mask is false."""
  if mask is None:
    count = len(jax.tree.leaves(params))
    return jnp.full(count, jnp.asarray(weight_decay).astype(dtype))
  kept = [bool(keep) for keep in _of_leaves(mask, params)]
  decay = jnp.asarray(weight_decay).astype(dtype)
  return jnp.asarray(kept, dtype) * decay


def _transposed(columns, count: int):
  """Returns for each of `count` tensors the tuple of its leaves."""
  return [tuple(column[i] for column in columns) for i in range(count)]


def scale_by_learned(
  config: OptimizerConfig,
  theta,
  *,
  num_steps=None,
  weight_decay: float | Float[Array, ""] | optax.Schedule = 0.0,
  mask: Any | Callable[[Any], Any] | None = None,
  roles: Any | Callable[[Any], Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
  """Scales updates by a learned optimizer, in the direction of the gradient.

  The result is to be followed by `optax.scale_by_learning_rate`, whose
  neutral value here is 1: step size and schedule are learned. Arguments,
  `value` of `update`, and errors are those of `LearnedOptimizer.transform`;
  the equations of a step and its safeguard are in `flt_lopt.kernel`.

  Args:
    config: the optimizer.
    theta: its meta-parameters.
    num_steps: length of the run in steps; `None` where it is not known.
    weight_decay: strength of decoupled weight decay, a number or a schedule.
    mask: pytree of booleans, or a function of the parameters to one, that
      says which tensors decay; `None` is all.
    roles: pytree of `flt_lopt.roles.ROLES`, or a function of the parameters to
      one, that says what tensors are; `None` is by their names.

  Returns:
    A gradient transformation.

  Raises:
    ValueError: theta is not of the configuration; `num_steps` is no whole
      number of steps, at least 1; or, at `init` or `update`, parameters,
      gradients, roles or the state can't be used.
  """
  _check_num_steps(num_steps)
  _check_theta(config, theta)
  floats = config.make_memory().num_floats
  form = config.make_second_moment()

  def init(params):
    leaves = jax.tree.leaves(params)
    dtype = _work_dtype(leaves)
    stored = config.make_storage().dtype(dtype)

    def zeros(leaf):
      return jnp.zeros_like(leaf, dtype=stored)

    def start(number):
      kept = stored if form.num_floats else dtype
      return lambda leaf: form.init(leaf, kept)[number]

    return FltState(
      count=jnp.zeros([], jnp.int32),
      modes=tuple(jax.tree.map(zeros, params) for _ in range(floats)),
      second=tuple(
        jax.tree.map(start(k), params) for k in range(form.num_arrays)
      ),
      tensors=kernel.init_tensors(config, len(leaves), dtype),
      progress=progress_lib.init(dtype),
    )

  def update(updates, state, params=None, *, value=None, **extra_args):
    del extra_args
    if params is None and jax.tree.leaves(updates):
      raise ValueError(
        "params is None, but a learned optimizer needs the parameters; call "
        "update(grads, state, params)."
      )
    params = updates if params is None else params
    structure: Any
    p_leaves, structure = jax.tree.flatten(params)
    p_leaves = [jnp.asarray(leaf) for leaf in p_leaves]
    dtype = _work_dtype(p_leaves)
    split = structure.flatten_up_to
    gradients = _gradients(updates, split, params)
    modes, second = _columns(config, state, split, params)
    leaves = [
      leafwise.Leaf(*each)
      for each in zip(gradients, p_leaves, modes, second, strict=True)
    ]
    progress = progress_lib.observe(state.progress, value)
    moved, tensors = _step(
      config,
      _roles(roles, params),
      jax.tree.map(lambda x: jnp.asarray(x).astype(dtype), theta),
      clock_lib.make(state.count, num_steps, dtype),
      _decay_per_tensor(
        weight_decay(state.count) if callable(weight_decay) else weight_decay,
        mask,
        params,
        dtype,
      ),
      progress,
      state.tensors,
      leaves,
    )
    join = functools.partial(jax.tree.unflatten, structure)
    new_state = FltState(
      count=optax.safe_increment(state.count),
      modes=tuple(join([m.modes[k] for m in moved]) for k in range(floats)),
      second=tuple(
        join([m.second[k] for m in moved]) for k in range(form.num_arrays)
      ),
      tensors=tensors,
      progress=progress,
    )
    return join([m.update for m in moved]), new_state

  return optax.GradientTransformationExtraArgs(init, update)


def scale_by_schedule_of(
  inner: optax.GradientTransformationExtraArgs, learning_rate
) -> optax.GradientTransformationExtraArgs:
  """Multiplies by minus the learning rate, a number or a schedule.

  Unlike `optax.scale_by_learning_rate` it reads the count of `inner`, so
  there is one count in the state.
  """

  def update(updates, state, params=None, **extra_args):
    rate = (
      learning_rate(state.count) if callable(learning_rate) else learning_rate
    )
    updates, new_state = inner.update(updates, state, params, **extra_args)
    return jax.tree.map(
      lambda u: u * jnp.asarray(-rate).astype(u.dtype), updates
    ), new_state

  return optax.GradientTransformationExtraArgs(inner.init, update)
