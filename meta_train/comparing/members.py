"""The runs of a comparison: each value of the setting, from each meta-seed.

Idea: a run is a command line of `python -m meta_train`, so whatever that can
do can be compared, and each run can be looked at, and repeated, by itself.

Main names: `Member`, `make_members`.
"""

import dataclasses
import hashlib
import pathlib
from typing import NamedTuple

from meta_train.command import flags
from meta_train.command.compare_flags import Request
from meta_train.command.compare_values import Value
from meta_train.config import MetaTrainConfig
from meta_train.errors import UserError

# File names may have 255 bytes; these stay legible.
_LONGEST = 80


class Member(NamedTuple):
  """A run of meta-training that is compared.

  Attributes:
    value: what the value of the setting is called.
    seed: its meta-seed.
    arguments: of `python -m meta_train`.
    config: what these arguments say.
  """

  value: str
  seed: int
  arguments: tuple[str, ...]
  config: MetaTrainConfig

  @property
  def name(self) -> str:
    """The name of its folder, and of its result in the evaluation."""
    return pathlib.Path(self.config.folder).name


def make_members(request: Request) -> tuple[Member, ...]:
  """Returns all runs, the meta-seeds of a value behind each other.

  Args:
    request: what the user asked for.

  Raises:
    UserError: a value is malformed or out of its range, or two values are the
      same or can't be told apart by the names of their folders.
  """
  config = request.config
  members = [
    _member(request, value, seed)
    for value in config.all_values
    for seed in range(config.meta_seeds)
  ]
  seen: dict[str, Member] = {}
  for member in members[:: config.meta_seeds]:
    ours = _settings(member)
    for other in seen.values():
      if _settings(other) == ours:
        raise UserError(
          f"--values has {shown(other.value)} and {shown(member.value)}, which "
          "are the same; leave one out"
        )
    # Some file systems don't tell capitals from small letters.
    folder = member.name.casefold()
    if folder in seen:
      raise UserError(
        f"--values has {seen[folder].value} and {member.value}, whose "
        f"folders would both be {member.name}; compare them in two folders"
      )
    seen[folder] = member
  return tuple(members)


def shown(value: str) -> str:
  """Returns a value as it is shown."""
  return value or "empty"


def _settings(member: Member) -> MetaTrainConfig:
  return dataclasses.replace(member.config, run_dir="", seed=0)


def _member(request: Request, value: Value, seed: int) -> Member:
  name = f"{_file_name(value.label)}-seed{seed}"
  folder = pathlib.Path(request.config.path) / name
  arguments = (
    *request.shared,
    f"--{request.config.setting}={value.text}",
    *value.flags,
    f"--seed={seed}",
    f"--run_dir={folder}",
    *("--noevaluate", "--num_processes=1"),
  )
  return Member(value.label, seed, arguments, flags.parse(arguments).config)


def _file_name(value: str) -> str:
  name = "".join(c if c.isalnum() or c in "-_." else "_" for c in shown(value))
  if len(name) <= _LONGEST:
    return name
  return f"{name[:_LONGEST]}_{hashlib.sha256(value.encode()).hexdigest()[:8]}"
