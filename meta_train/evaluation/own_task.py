"""A user's own task, named on the command line, looked at before it is used.

Whatever would end hours later, or in a traceback from elsewhere, is refused at
once in one line: a loss that is no number, that is not finite where runs begin,
or of which a logarithmic objective sees nothing. What goes wrong inside the
task's own code keeps its traceback.

Main names: `load_family`, `member`.
"""

from typing import Any

import jax
import numpy as np

from meta_train.engine.objectives import OBJECTIVES
from meta_train.errors import UserError

#: Members of a family that are tried.
_TRIED = 4


def load_family(
  name: str, *, objective: str | None = None, flag: str = "task"
) -> Any:
  """Imports a user's task or family, and returns it as a family.

  Args:
    name: `module:Name`, see `tasks.user`.
    objective: meta-objective that it is to be trained by; `None`: by none.
    flag: by which it was named.

  Raises:
    UserError: it can't be found, or can't be trained on.
  """
  from tasks import user
  from tasks.errors import TaskError

  given = f"--{flag}={name}"
  try:
    family = user.user_family(name)
    _check_shapes(given, family)
    _check_start(given, family, objective)
  except TaskError as error:
    # A text on a task begins with its name.
    text = str(error).removeprefix(f"The task {name!r} ")
    raise UserError(f"{given}: {text}") from error
  return family


def member(family: Any, seed: int) -> Any:
  """Returns a task of a family.

  Args:
    family: the family.
    seed: which one; all are the same if the user's was a single task.
  """
  return family.task_fn(family.sample(jax.random.key(seed)))


def _check_shapes(given: str, family: Any) -> None:
  def probe(key):
    task = family.task_fn(family.sample(key))
    params, model_state = task.init_with_state(key)
    for path, leaf in jax.tree.leaves_with_path(params):
      if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        raise UserError(
          f"{given}: its parameter {jax.tree_util.keystr(path)} is a "
          f"{type(leaf).__name__}, but must be an array; use jnp.asarray"
        )
    loss = task.loss_with_state(params, model_state, key, None)[0]
    if not hasattr(loss, "shape"):
      raise UserError(
        f"{given}: its loss returns a {type(loss).__name__}, but must "
        "return one float32 number; return more from loss_and_aux"
      )
    return params, loss

  params, loss = jax.eval_shape(probe, jax.random.key(0))
  dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(params)}
  if dtypes != {"float32"}:
    raise UserError(
      f"{given}: its parameters have dtypes "
      f"{', '.join(sorted(dtypes)) or '(there are none)'}, but meta-training "
      "takes float32; convert them in init, and cast inside the loss"
    )
  if loss.shape != () or loss.dtype != "float32":
    raise UserError(
      f"{given}: its loss has shape {loss.shape} and dtype {loss.dtype}, "
      "but must be one float32 number; take the mean"
    )


def _check_start(given: str, family: Any, objective: str | None) -> None:
  """Refuses a family none of whose first members has a loss to begin with."""

  @jax.jit
  def start(key):
    task = family.task_fn(family.sample(key))
    params, model_state = task.init_with_state(key)
    loss = task.loss_with_state(params, model_state, key, None)[0]
    return loss, task.normalizer(loss)

  known = OBJECTIVES.get(objective or "")  # Others are refused elsewhere.
  logged = known is not None and known.logged
  for key in jax.random.split(jax.random.key(0), _TRIED):
    loss, normalised = map(float, start(key))
    if np.isfinite(loss) and (normalised > 0 or not logged):
      return
  if not np.isfinite(loss):
    raise UserError(
      f"{given}: its loss is {loss} at the parameters of init, and nothing can "
      "be learned from that; make it finite where training begins"
    )
  raise UserError(
    f"{given}: its loss begins at {normalised:.3g}, and "
    f"--objective={objective} counts all below 0 as 0; use --objective=mean, "
    "or add to the loss what makes it positive"
  )
