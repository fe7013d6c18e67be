"""The step of any optax transformation, with the loss for those that take it.

Name: `update`.
"""

import inspect
from typing import Any

import optax
from jaxtyping import PyTree


def update(
  tx: Any, grads: PyTree, state: PyTree, params: PyTree, *, value: Any
) -> tuple[PyTree, PyTree]:
  """Returns what `tx.update` returns, with `value` given to all that take it.

  They are transformations with extra arguments, and whatever has an argument
  `value` or takes any, such as `optax.MultiSteps` around one that does.

  Args:
    tx: the transformation, or an object with its `init` and `update`.
    grads: gradients.
    state: of the transformation.
    params: parameters.
    value: the loss.
  """
  takes = isinstance(tx, optax.GradientTransformationExtraArgs)
  if not takes:
    found = inspect.signature(tx.update).parameters
    kinds = {each.kind for each in found.values()}
    takes = "value" in found or inspect.Parameter.VAR_KEYWORD in kinds
  return tx.update(grads, state, params, **({"value": value} if takes else {}))
