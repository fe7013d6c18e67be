"""Inner problems for meta-training learned optimizers.

`Task` is a problem to optimise, `TaskFamily` a distribution over such
problems; `registry` knows them by name and `get_suite` gives sets for
training, validation and held-out evaluation. All data is in memory and is
sampled inside `jit`; tasks of others that bring iterators on the host are
hosted.
"""

from tasks import registry
from tasks.base import (
  Task,
  TaskFamily,
  single_task_to_family,
)
from tasks.host_data import HostDatasets
from tasks.hosted import hosted_family, hosted_task
from tasks.listing import TaskRow, list_tasks
from tasks.suites import Suite, get_suite, list_suites
from tasks.user import load_user_task, user_family
from tasks.width import scale_width

__all__ = [
  "HostDatasets",
  "Suite",
  "Task",
  "TaskFamily",
  "TaskRow",
  "get_suite",
  "hosted_family",
  "hosted_task",
  "list_suites",
  "list_tasks",
  "load_user_task",
  "registry",
  "scale_width",
  "single_task_to_family",
  "user_family",
]
