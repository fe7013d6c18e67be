"""Wider members of families, for asking how an optimizer scales.

A problem knows itself what is wide in it: the units, channels or features of
its layers, the number of variables of a function. Data, depth, batch size and
seed remain, so a problem and its wider self differ in nothing else.

Main names: `scale_width`.
"""

from typing import TypeVar

from tasks.base import Task, TaskFamily

Problem = TypeVar("Problem", Task, TaskFamily)


def scale_width(problem: Problem, factor: int) -> Problem:
  """Multiplies the widths of a task or a family.

  Args:
    problem: A task of a suite or of `registry.task`, or a family; augmented
      ones too.
    factor: At least 1.

  Returns:
    The wider problem, whose name ends in `_wide` and the factor; the problem
    itself for a factor of 1.

  Raises:
    ValueError: If the problem has no width: its size is that of its data, as
      in regression, or it is a task of the user's that does not say. Such a
      task can define `widened(factor)`.

  Example:
    >>> wide = scale_width(registry.task("mlp_digits_48"), 8)  # 384 units
  """
  if factor < 1 or factor != int(factor):
    raise ValueError(f"factor={factor} must be a whole number, at least 1.")
  if factor == 1:
    return problem
  widened = getattr(problem, "widened", None)
  if widened is None:
    raise ValueError(
      f"The problem {problem.name!r} cannot be widened, since it does not say"
      " how; it can define a method widened(factor)."
    )
  return widened(int(factor))
