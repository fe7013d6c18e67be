"""The problems that a program is to work on, by suite and by name.

Main names: `Problems`, `load_problems`, `check_validation`, `choose_tasks`.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from meta_train.command.shared_options import split_names
from meta_train.config import MetaTrainConfig
from meta_train.errors import UserError, check_choice, closest
from meta_train.evaluation import own_task
from meta_train.terminal import say


class Problems(NamedTuple):
  """What to meta-train and to evaluate on.

  Attributes:
    train: task families.
    validation: tasks to choose theta by.
    held_out: tasks.
  """

  train: tuple[Any, ...]
  validation: tuple[Any, ...]
  held_out: tuple[Any, ...]


def load_problems(config: MetaTrainConfig) -> Problems:
  """Returns the suite's problems, or the user's own task for all uses.

  Raises:
    UserError: the user's task, an augmentation or data can't be found, or
      the suite is for evaluation only.
  """
  import tasks
  from tasks import augment

  augmentations = [name for name in config.augment.split(",") if name]
  for name in augmentations:
    check_choice("augment", name, augment.AUGMENTATIONS)
  if not config.task:
    with _found(f"--task_suite={config.task_suite}"):
      suite = tasks.get_suite(
        config.task_suite,
        data_dir=config.data_dir or None,
        augment=augmentations,
      )
    if not suite.train:
      raise UserError(
        f"--task_suite={config.task_suite} has no tasks to meta-train on; it "
        "is for evaluation, choose another (--list_suites)"
      )
    train = _chosen(config.families, suite.train)
    problems = Problems(train, suite.validation, suite.held_out)
    _check_data(config, problems)
    _check_visits(config, len(train))
    return problems
  own = own_task.load_family(config.task, objective=config.objective)
  with _found(f"--augment={config.augment}"):
    family = augment.augment(own, *augmentations)
  # Members that meta-training may have seen too, from other seeds.
  validation, held_out = (
    own_task.member(family, config.seed + more) for more in (1, 0)
  )
  return Problems((family,), (validation,), (held_out,))


def check_validation(config: MetaTrainConfig, problems: Problems) -> None:
  """Refuses validation where there is nothing to validate on.

  Raises:
    UserError: the problems have no validation tasks.
  """
  if config.validate_every and not problems.validation:
    raise UserError(
      f"--validate_every={config.validate_every}, but "
      f"--task_suite={config.task_suite} has no validation tasks; use 0"
    )


@contextlib.contextmanager
def _found(given: str) -> Iterator[None]:
  """Makes a ValueError a UserError that names what was given."""
  try:
    yield
  except ValueError as error:
    raise UserError(f"{given}: {error}") from error


def _check_data(config: MetaTrainConfig, problems: Problems) -> None:
  """Refuses a data folder that lacks what the tasks will read, before they do.

  Raises:
    UserError: a file is missing or damaged.
  """
  if not config.data_dir:
    return
  key = jax.random.key(0)
  used = [*problems.train]
  used += problems.validation if config.validate_every else ()
  used += problems.held_out if config.evaluate else ()
  for problem in used:
    try:
      is_family = hasattr(problem, "task_fn")
      task = problem.task_fn(problem.sample(key)) if is_family else problem
      jax.eval_shape(_start_of(task), key)
    except (FileNotFoundError, ValueError) as error:
      raise UserError(
        f"--data_dir={config.data_dir}, for {problem.name}: {error}"
      ) from error
  _check_exists(config.data_dir)


def _check_exists(data_dir: str) -> None:
  """Refuses a data folder that is not there, though nothing may need it.

  Raises:
    UserError: there is no such file or folder.
  """
  if data_dir and not pathlib.Path(data_dir).expanduser().exists():
    raise UserError(
      f"--data_dir={data_dir} does not exist; name the folder of the data "
      "sets, or leave it out"
    )


def _check_visits(config: MetaTrainConfig, num_families: int) -> None:
  """Says so if outer steps are to visit more families than there are."""
  if config.families_per_step > num_families and config.process_id <= 0:
    say(
      f"warning: --families_per_step={config.families_per_step} is more than "
      f"there are ({num_families}), so every outer step trains on all; use "
      "0 for that"
    )


def _start_of(task):
  """Returns a function of a key that gives parameters and the first loss."""

  def start(key):
    params, model_state = task.init_with_state(key)
    return params, task.loss_with_state(params, model_state, key, None)[0]

  return start


def _chosen(names: str, families: tuple[Any, ...]) -> tuple[Any, ...]:
  """Returns the families of these names, in the suite's order."""
  wanted = split_names(names)
  known = [family.name for family in families]
  for name in wanted:
    if name not in known:
      raise UserError(
        f"--families={names} names {name!r}, which the suite does not train on"
        f"{closest(name, known)} (it does on: {', '.join(known)})"
      )
  return tuple(f for f in families if not wanted or f.name in wanted)


def choose_tasks(
  task_suite: str,
  *,
  names: str = "",
  data_dir: str = "",
  flags: tuple[str, str] = ("task_suite", "tasks"),
) -> tuple[Any, ...]:
  """Returns the tasks of a suite that are for evaluation, or the user's own.

  Args:
    task_suite: name of a suite, of which the held-out tasks are meant, or the
      validation tasks where it has no others; or module:Name for a task or a
      family of the user's, of a family the member of seed 0.
    names: of those that are wanted, separated by commas; empty: all.
    data_dir: folder of published data sets; empty: none.
    flags: what the user calls the first two.

  Raises:
    UserError: the suite or a task is unknown, or the folder is not there.
  """
  import tasks

  _check_exists(data_dir)
  if ":" in task_suite:
    family = own_task.load_family(task_suite, flag=flags[0])
    chosen: tuple[Any, ...] = (own_task.member(family, 0),)
  else:
    check_choice(flags[0], task_suite, tasks.list_suites())
    suite = tasks.get_suite(task_suite, data_dir=data_dir or None)
    chosen = suite.held_out or suite.validation
  found = {task.name: task for task in chosen}
  wanted = split_names(names) or list(found)
  for name in wanted:
    if name not in found:
      raise UserError(
        f"--{flags[1]}={name} is no task of {task_suite}{closest(name, found)} "
        f"(there are: {', '.join(found)})"
      )
  return tuple(found[name] for name in wanted)
