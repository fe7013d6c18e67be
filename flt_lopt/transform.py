"""The learned optimizer as an optax gradient transformation."""

import functools
import reprlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from flt_lopt import arguments, kernel, leafwise
from flt_lopt import clock as clock_lib
from flt_lopt import progress as progress_lib
from flt_lopt.config import OptimizerConfig

# One program, so that it is quick without an outer jit too; one per
# configuration, since `optax.inject_hyperparams` makes a transformation per
# step.
_step = jax.jit(leafwise.step, static_argnums=(0, 1))


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


def _init(config: OptimizerConfig, params) -> FltState:
  leaves = jax.tree.leaves(params)
  dtype = arguments.work_dtype(leaves)
  form = config.make_second_moment()
  stored = config.make_storage().dtype(dtype)

  def zeros(leaf):
    return jnp.zeros_like(leaf, dtype=stored)

  def start(number):
    kept = stored if form.num_floats else dtype
    return lambda leaf: form.init(leaf, kept)[number]

  return FltState(
    count=jnp.zeros([], jnp.int32),
    modes=tuple(
      jax.tree.map(zeros, params)
      for _ in range(config.make_memory().num_floats)
    ),
    second=tuple(
      jax.tree.map(start(k), params) for k in range(form.num_arrays)
    ),
    tensors=kernel.init_tensors(config, len(leaves), dtype),
    progress=progress_lib.init(dtype),
  )


def _form(modes, second, tensors):
  """Returns the shapes of a state whose trees are lists."""
  leaves, structure = jax.tree.flatten(tensors)
  return structure, [
    [jnp.shape(x) for x in part] for part in (*modes, *second, leaves)
  ]


@functools.lru_cache(maxsize=256)
def _wanted_form(config: OptimizerConfig, shapes, dtype):
  params = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
  state = jax.eval_shape(functools.partial(_init, config), params)
  return _form(state.modes, state.second, state.tensors)


def _columns(config: OptimizerConfig, state, split, shapes, dtype):
  """Returns the memory and the second moment of every parameter.

  Raises:
    ValueError: the state has not the shapes of one of this optimizer for
      parameters of these shapes.
  """
  try:
    modes, second = (
      [split(tree) for tree in part] for part in (state.modes, state.second)
    )
    form = _form(modes, second, state.tensors)
  except (AttributeError, TypeError, ValueError):
    form = None
  if form != _wanted_form(config, shapes, dtype):
    raise ValueError(
      "the state is not of this optimizer and of parameters of the shapes "
      f"{reprlib.repr(list(shapes))}; make it by init(params), or restore it "
      "into what init returns."
    )
  return _transposed(modes, len(shapes)), _transposed(second, len(shapes))


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
  arguments.check_num_steps(num_steps)
  arguments.check_theta(config, theta)
  arguments.check_number("weight_decay", weight_decay)
  floats = config.make_memory().num_floats
  form = config.make_second_moment()

  def init(params):
    state = _init(config, params)
    # So that what doesn't fit is told before the first step.
    arguments.roles(roles, params)
    arguments.decay_per_tensor(0.0, mask, params, jnp.float32)
    return state

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
    dtype = arguments.work_dtype(p_leaves)
    split = structure.flatten_up_to
    gradients = arguments.gradients(updates, split, params)
    shapes = tuple(leaf.shape for leaf in p_leaves)
    modes, second = _columns(config, state, split, shapes, dtype)
    leaves = [
      leafwise.Leaf(*each)
      for each in zip(gradients, p_leaves, modes, second, strict=True)
    ]
    progress = progress_lib.observe(state.progress, value)
    moved, tensors = _step(
      config,
      arguments.roles(roles, params),
      jax.tree.map(lambda x: jnp.asarray(x).astype(dtype), theta),
      clock_lib.make(state.count, num_steps, dtype),
      arguments.decay_per_tensor(
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

  Raises:
    ValueError: it is neither.
  """
  arguments.check_number("learning_rate", learning_rate)

  def update(updates, state, params=None, **extra_args):
    rate = (
      learning_rate(state.count) if callable(learning_rate) else learning_rate
    )
    updates, new_state = inner.update(updates, state, params, **extra_args)
    return jax.tree.map(
      lambda u: u * jnp.asarray(-rate).astype(u.dtype), updates
    ), new_state

  return optax.GradientTransformationExtraArgs(inner.init, update)
