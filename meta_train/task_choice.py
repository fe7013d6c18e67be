"""The tasks that a program is to work on, by suite and by name.

Main names: `choose`.
"""

from typing import Any

from meta_train.errors import UserError, closest


def choose(
  task_suite: str, *, names: str = "", data_dir: str = ""
) -> tuple[Any, ...]:
  """Returns the tasks of a suite that are for evaluation.

  Args:
    task_suite: name of a suite. Its held-out tasks are meant, or its
      validation tasks where it has no others.
    names: of those that are wanted, separated by commas; empty: all.
    data_dir: folder of published data sets; empty: none.

  Raises:
    UserError: the suite or a task is unknown.
  """
  import tasks

  known = tasks.list_suites()
  if task_suite not in known:
    raise UserError(
      f"--task_suite={task_suite} is unknown{closest(task_suite, known)} "
      f"(there are: {', '.join(known)})"
    )
  suite = tasks.get_suite(task_suite, data_dir=data_dir or None)
  found = {task.name: task for task in suite.held_out or suite.validation}
  wanted = [name for name in names.split(",") if name] or list(found)
  for name in wanted:
    if name not in found:
      raise UserError(
        f"--tasks={name} is no task of {task_suite}{closest(name, found)} "
        f"(there are: {', '.join(found)})"
      )
  return tuple(found[name] for name in wanted)
