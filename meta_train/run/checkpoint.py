"""Checkpoints: the whole state of a run in one file, written atomically.

A checkpoint is a safetensors file with a checksum; typed PRNG keys are part
of it, and every array comes back bit for bit. The newest few are kept, and the
best one if the run says which. If the newest is damaged the one before it is
used, and what cannot be used is never overwritten.

Main names: `CheckpointStore`, `steps_in`.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import chex
from absl import logging

from flt_lopt import _atomic_file, _named_arrays, _tensor_file
from meta_train.errors import UserError

_KIND = "checkpoint"
_VERSION = 1
_NAME = re.compile(r"step-(\d{8,})\.safetensors")


class CheckpointStore:
  """The checkpoints of one run, in a folder of their own.

  Args:
    folder: the folder; it is made with the first checkpoint.
    keep: how many of the newest stay, at least 1.
    owner: what tells this run from others, as a JSON object; a checkpoint
      of another owner is refused.
    defaults: what an owner has that a checkpoint says nothing of, since it
      is older than that setting.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    *,
    keep: int,
    owner: dict[str, Any],
    defaults: Mapping[str, Any] | None = None,
  ):
    self.folder = folder
    self._keep = keep
    self._owner = owner
    self._defaults = defaults or {}
    self._damaged: list[tuple[pathlib.Path, str]] = []

  def steps(self) -> list[int]:
    """Returns the outer steps of the checkpoints, oldest first."""
    return steps_in(self.folder)

  def path(self, outer_step: int) -> pathlib.Path:
    """Returns the file of a checkpoint."""
    return self.folder / f"step-{outer_step:08d}.safetensors"

  def save(
    self, outer_step: int, state: chex.ArrayTree, *, best: int | None = None
  ) -> pathlib.Path:
    """Writes a checkpoint and deletes the oldest ones.

    Args:
      outer_step: outer steps done.
      state: arrays, typed keys and Python numbers, nested in any way.
      best: outer steps of the checkpoint that is kept however old it is.

    Returns:
      The file.

    Raises:
      UserError: it cannot be written; the former checkpoints are untouched.
    """
    path = self.path(outer_step)
    named = _named_arrays.flatten(state)
    description = {
      "outer_step": outer_step,
      "owner": self._owner,
      "keys": named.key_impls,
    }
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
      _atomic_file.remove_leftovers(self.folder)
      _tensor_file.write(
        path,
        named.arrays,
        kind=_KIND,
        version=_VERSION,
        description=description,
      )
    except OSError as error:
      raise UserError(
        f"the checkpoint {path} cannot be written ({error.strerror}); make "
        "room, then start the same command again"
      ) from error
    for old in self.steps()[: -self._keep]:
      if old != best:
        self.path(old).unlink(missing_ok=True)
    return path

  def restore(
    self, template: chex.ArrayTree
  ) -> tuple[int, chex.ArrayTree] | None:
    """Reads the newest checkpoint that is whole.

    Args:
      template: a state of the wanted structure, shapes and dtypes.

    Returns:
      The outer steps done and the state; None if there is no checkpoint.

    Raises:
      UserError: there are checkpoints and all are damaged, or the newest
        whole one belongs to another run or another architecture.

    The files are left as they are; whoever goes on from what is returned
    calls `set_aside` first.
    """
    damaged = self._damaged = []
    for outer_step in reversed(self.steps()):
      path = self.path(outer_step)
      try:
        file = _tensor_file.read(path, kind=_KIND, version=_VERSION)
      except (_tensor_file.TensorFileError, OSError) as error:
        damaged.append((path, str(error)))
        continue
      return outer_step, self._unpack(path, outer_step, file, template)
    if damaged:
      raise UserError(
        f"no checkpoint in {self.folder} can be used: "
        f"{'; '.join(text for _, text in damaged)}; restore one from a copy, "
        "or name another --run_dir to begin anew"
      )
    return None

  def set_aside(self) -> None:
    """Renames the files that `restore` found damaged, and says so.

    Otherwise the next `save` would keep them for new.
    """
    for path, text in self._damaged:
      aside = path.with_name(path.name + ".damaged")
      path.rename(aside)
      logging.warning(
        "%s; it is kept as %s, and the run continues from the checkpoint "
        "before it",
        text,
        aside.name,
      )
    self._damaged = []

  def _unpack(
    self,
    path: pathlib.Path,
    outer_step: int,
    file: _tensor_file.TensorFile,
    template: chex.ArrayTree,
  ) -> chex.ArrayTree:
    description = file.description
    if description.get("outer_step") != outer_step:
      raise UserError(
        f"the checkpoint {path} is of outer step "
        f"{description.get('outer_step')}; give it the name of that step"
      )
    theirs = {**self._defaults, **(description.get("owner") or {})}
    differing = [
      f"{name} {theirs.get(name)} instead of {self._owner.get(name)}"
      for name in {**self._owner, **theirs}
      if theirs.get(name) != self._owner.get(name)
    ]
    if differing:
      raise UserError(
        f"the checkpoint {path} belongs to a run with other settings "
        f"({', '.join(differing)}); restore the run's own, or name another "
        "--run_dir"
      )
    named = _named_arrays.NamedArrays(file.tensors, description["keys"])
    try:
      return _named_arrays.unflatten(template, named)
    except _named_arrays.TemplateError as error:
      raise UserError(
        f"the checkpoint {path} is of another architecture ({error}); "
        "restore the run's own, or name another --run_dir"
      ) from None


def steps_in(folder: pathlib.Path) -> list[int]:
  """Returns the outer steps of the checkpoints in a folder, oldest first.

  Half-written and other files, which are no checkpoints, are left out.

  Args:
    folder: the folder, which need not exist.
  """
  if not folder.is_dir():
    return []
  names = (_NAME.fullmatch(entry.name) for entry in folder.iterdir())
  return sorted(int(name[1]) for name in names if name)
