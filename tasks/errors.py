"""The error for what is wrong with a task and its author can mend.

Main names: `TaskError`.
"""


class TaskError(ValueError):
  """A task, or what was asked of the zoo, can't be used; the text says why.

  It is raised by this package alone, so that a `ValueError` of a user's own
  code can be told from it.
  """
