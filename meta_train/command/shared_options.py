"""Flags that several programs have, each said once.

Main names: `num_devices`, `compilation_cache_dir`, `data_dir`, `chosen_tasks`,
`run_steps`, `run_seeds`, `split_names`.
"""

from typing import Any

from meta_train.command.options import option
from meta_train.evaluation import protocol


def num_devices(more: str = "") -> Any:
  """Returns the field of `machine.set_up`'s number of devices.

  Args:
    more: what else there is to say of it.
  """
  return option(
    0,
    "XLA devices of a process to share its work among; 0: on a CPU one per "
    f"core, else all{more}",
    unit="devices",
    low=0,
    may_change=True,
  )


def compilation_cache_dir() -> Any:
  """Returns the field of `machine.set_up`'s cache folder."""
  return option(
    "",
    "where compiled programs are kept for the next start; empty: in the "
    "user's cache folder; off: nowhere",
    may_change=True,
  )


def data_dir() -> Any:
  """Returns the field of the folder that suites read published data from."""
  return option(
    "",
    "folder of published data sets (MNIST, CIFAR-10, ...) for suites that use "
    "them where there are some; empty: only data that is always there",
  )


def chosen_tasks() -> Any:
  """Returns the field of `problems.choose_tasks`'s names."""
  return option(
    "", "only these tasks of the suite, separated by commas; empty: all"
  )


def run_steps() -> Any:
  """Returns the field of the length of an evaluated run."""
  return option(
    protocol.NUM_STEPS, "length of a run", unit="inner steps", low=2
  )


def run_seeds() -> Any:
  """Returns the field of how many runs are compared on a task."""
  return option(
    protocol.NUM_SEEDS,
    "runs of each optimizer on each task",
    unit="runs",
    low=1,
  )


def split_names(value: str) -> list[str]:
  """Returns the names in a flag's value, each once.

  Args:
    value: names separated by commas, with blanks around them or not.
  """
  names = [name.strip() for name in value.split(",")]
  return [name for name in dict.fromkeys(names) if name]
