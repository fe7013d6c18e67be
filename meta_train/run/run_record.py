"""What a run's folder says of the run: config.json and environment.json.

config.json has the settings, and decides whether a start continues the run;
environment.json has versions, machine and command line of this start and of
all earlier ones, and decides nothing.

Main names: `read_config`, `check_same`, `fixed_part`, `describe_start`,
`warn_of_changes`.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from flt_lopt import _atomic_file
from meta_train import config as config_lib
from meta_train.errors import UserError
from meta_train.run import environment

CONFIG = "config.json"
ENVIRONMENT = "environment.json"

_KIND = "flt_lopt run"
_VERSION = 1


def read_config(path: pathlib.Path | str) -> config_lib.MetaTrainConfig:
  """Returns the settings of the run in a folder.

  Args:
    path: the run folder.

  Raises:
    UserError: config.json is missing, damaged, foreign, or of a version
      with other settings.
  """
  file = pathlib.Path(path) / CONFIG
  record = _read(file)
  if record.get("kind") != _KIND or not isinstance(record.get("config"), dict):
    raise UserError(
      f"{file} is not the config.json of a run of flt_lopt; name another "
      "--run_dir"
    )
  known = {field.name for field in config_lib.options()}
  unknown = sorted(set(record["config"]) - known)
  if unknown or record.get("version") != _VERSION:
    raise UserError(
      f"{file} was written by another version of flt_lopt"
      f"{' (it sets ' + ', '.join(unknown) + ')' if unknown else ''}; "
      "continue the run with that version, or name another --run_dir"
    )
  return config_lib.MetaTrainConfig(**record["config"])


def check_same(
  path: pathlib.Path,
  old: config_lib.MetaTrainConfig,
  new: config_lib.MetaTrainConfig,
) -> None:
  """Refuses settings that would change the numbers of a run.

  Args:
    path: the run's folder.
    old: its settings so far.
    new: those of this start.

  Raises:
    UserError: it names all that differ.
  """
  changed = [
    f"--{field.name}={getattr(new, field.name)} instead of "
    f"{getattr(old, field.name)}"
    for field in config_lib.options()
    if not field.metadata["may_change"]
    and getattr(new, field.name) != getattr(old, field.name)
  ]
  if changed:
    raise UserError(
      f"the run in {path} was begun with other settings: "
      f"{', '.join(changed)}; name another --run_dir, or leave them as they "
      "were"
    )


def fixed_part(config: config_lib.MetaTrainConfig) -> dict[str, Any]:
  """Returns the settings that may not change during a run."""
  return {
    field.name: getattr(config, field.name)
    for field in config_lib.options()
    if not field.metadata["may_change"]
  }


def describe_start(
  path: pathlib.Path,
  config: config_lib.MetaTrainConfig,
  command: Sequence[str],
  used: Mapping[str, int],
) -> None:
  """Writes both files.

  Args:
    path: the run's folder.
    config: the settings of this start.
    command: its command line.
    used: how many devices and the like it uses.
  """
  _atomic_file.remove_leftovers(path)
  _write(path / CONFIG, _record(config))
  _write(path / ENVIRONMENT, _environment(path, config, command, used))


def warn_of_changes(
  path: pathlib.Path,
  config: config_lib.MetaTrainConfig,
  used: Mapping[str, int],
) -> None:
  """Warns where a run does not continue on what it was begun on.

  Args:
    path: the run's folder.
    config: the settings of this start.
    used: how many devices and the like it uses.
  """
  try:
    then = _read(path / ENVIRONMENT)
  except UserError:
    return
  now = _now(config, (), used)
  if changed := _changed(_shapers(then), _shapers(now)):
    logging.warning(
      "the run continues with %s: it ends like one that was never stopped to "
      "rounding, not bit for bit",
      changed,
    )
  if changed := _changed(_code(then), _code(now)):
    logging.warning(
      "the run continues with %s: with other code it need not end like one "
      "that was never stopped",
      changed,
    )
  if _changed(_task(then), _task(now)):
    logging.warning(
      "the source of --task=%s has changed since the run's last start: what "
      "was learned so far was learned on the former task",
      config.task,
    )


def _shapers(record: Mapping[str, Any]) -> dict[str, Any]:
  """Returns what numbers depend on to rounding."""
  versions = _part(record, "versions")
  return {
    **{name: versions.get(name) for name in ("jax", "jaxlib")},
    "backend": record.get("backend"),
    "device kind": record.get("device_kind"),
    **_part(record, "used"),
  }


def _code(record: Mapping[str, Any]) -> dict[str, Any]:
  return {
    "flt-lopt": _part(record, "versions").get("flt-lopt"),
    "revision": record.get("git_revision"),
  }


def _task(record: Mapping[str, Any]) -> dict[str, Any]:
  return {"task": record.get("task_sha256")}


def _part(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
  found = record.get(name)
  return found if isinstance(found, dict) else {}


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
  """Returns what is known of both starts and differs, as a list in words."""
  return ", ".join(
    f"{name} {value} instead of {then[name]}"
    for name, value in now.items()
    if None not in (value, then.get(name)) and then[name] != value
  )


def _record(config: config_lib.MetaTrainConfig) -> dict[str, Any]:
  settings = dataclasses.asdict(config)
  return {"kind": _KIND, "version": _VERSION, "config": settings}


def _now(
  config: config_lib.MetaTrainConfig,
  command: Sequence[str],
  used: Mapping[str, int],
) -> dict[str, Any]:
  """Describes this start."""
  now = environment.describe(seed=config.seed, command=command)
  now["used"] = dict(used)
  now["task_sha256"] = environment.task_sha256(config.task)
  return now


def _environment(
  path: pathlib.Path,
  config: config_lib.MetaTrainConfig,
  command: Sequence[str],
  used: Mapping[str, int],
) -> dict[str, Any]:
  """Describes this start, and keeps what was written of earlier ones."""
  now = _now(config, command, used)
  try:
    last = _read(path / ENVIRONMENT)
  except UserError:  # Missing or damaged: no run needs it to continue.
    return {**now, "earlier_starts": []}
  earlier = last.pop("earlier_starts", [])
  if not isinstance(earlier, list):
    earlier = []
  return {**now, "earlier_starts": [*earlier, last]}


def _read(file: pathlib.Path) -> dict[str, Any]:
  try:
    record = json.loads(file.read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(
      f"{file} cannot be read ({error}); mend it, or name another --run_dir"
    ) from None
  if not isinstance(record, dict):
    raise UserError(f"{file} is not the file of a run of flt_lopt")
  return record


def _write(file: pathlib.Path, record: dict[str, Any]) -> None:
  text = json.dumps(record, indent=2) + "\n"
  _atomic_file.write_bytes(file, text.encode())
