"""Weights of a learned optimizer as a file: `save` and `load`.

A weights file is a safetensors file: the arrays of `theta` by name, and in
its header the `OptimizerConfig`, the version of the networks' inputs, where
the weights come from, and a checksum. It holds no code, and what it may hold
is decided by the config's own template, so that a damaged or hostile file can
give an error and nothing else.

Main names: `save`, `load`, `read_provenance`, `list_pretrained`,
`WeightsError`.
"""

import dataclasses
import difflib
import math
import os
import pathlib
import re
from typing import Any

import chex
import jax
import numpy as np

from flt_lopt import _named_arrays, _tensor_file
from flt_lopt.config import FEATURE_SET, OptimizerConfig
from flt_lopt.learned_optimizer import LearnedOptimizer

_KIND = "weights"
_VERSION = 1
_MAX_BYTES = 256 * 2**20
#: Of any whole number in a config. Sizes multiply, and a file that asks for
#: large ones must neither fill the memory nor take minutes to be refused.
_MAX_SIZE = 256
#: Of the lists and texts in a config: none that can be is larger.
_MAX_DEPTH, _MAX_ITEMS, _MAX_TEXT = 3, 64, 64
_SUFFIX = ".safetensors"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_PRETRAINED = pathlib.Path(__file__).resolve().parent / "pretrained"


class WeightsError(ValueError):
  """Weights that are missing, damaged, foreign, or of another version."""


def save(
  path: str | os.PathLike[str],
  config: OptimizerConfig,
  theta: chex.ArrayTree,
  provenance: dict[str, Any] | None = None,
) -> None:
  """Writes weights in one atomic step; an existing file is replaced.

  Args:
    path: the file, by custom `*.safetensors`.
    config: the configuration `theta` belongs to.
    theta: meta-parameters, as `LearnedOptimizer(config).init` makes them.
    provenance: how they came to be (tasks, seed, steps, versions), as
      anything JSON can hold; None: unknown.

  Raises:
    WeightsError: `theta` is not of the config's shapes, or not finite, or
      the config has numbers too large to be loaded again.
    TypeError: `provenance` holds what JSON can't.
    ValueError: `provenance` holds NaN, infinity, or itself.
    OSError: the file cannot be written; an existing one is untouched.
  """
  _config(f"{path}, which is not written,", dataclasses.asdict(config))
  named = _named_arrays.flatten(theta)
  path = pathlib.Path(path).expanduser()
  _check_theta(f"theta, to be saved as {path},", config, named)
  description = {
    "config": dataclasses.asdict(config),
    "feature_set": FEATURE_SET,
    "provenance": provenance or {},
  }
  _tensor_file.write(
    path, named.arrays, kind=_KIND, version=_VERSION, description=description
  )


def load(
  path_or_name: str | os.PathLike[str],
) -> tuple[OptimizerConfig, chex.ArrayTree]:
  """Reads weights from a file, or those shipped under a name.

  Args:
    path_or_name: a name of `list_pretrained()`, or a path. Text is a path if
      it has a folder separator or ends in `.safetensors`.

  Returns:
    The configuration and `theta`, whose leaves are NumPy arrays.

  Raises:
    WeightsError: there are none, or they are damaged, foreign, or of a
      version that this one cannot use. The text says which and what to do.

  Example:
    >>> config, theta = flt_lopt.load("flt-quick")
    >>> tx = flt_lopt.LearnedOptimizer(config).transform(theta)
  """
  path, description, named = _read(path_or_name)
  config = _config(path, description.get("config"))
  return config, _check_theta(str(path), config, named)


def read_provenance(path_or_name: str | os.PathLike[str]) -> dict[str, Any]:
  """Returns where weights come from, as `save` was told.

  Args:
    path_or_name: as for `load`.

  Raises:
    WeightsError: as for `load`.
  """
  path, description, _ = _read(path_or_name)
  provenance = description.get("provenance")
  if not isinstance(provenance, dict):
    raise WeightsError(f"{path} is damaged: its provenance is malformed")
  return provenance


def list_pretrained() -> tuple[str, ...]:
  """Returns the names of the weights that ship with the package."""
  if not _PRETRAINED.is_dir():
    return ()
  return tuple(sorted(path.stem for path in _PRETRAINED.glob(f"*{_SUFFIX}")))


def _read(
  path_or_name: str | os.PathLike[str],
) -> tuple[pathlib.Path, dict[str, Any], _named_arrays.NamedArrays]:
  path = _find(path_or_name)
  if os.path.isdir(path):  # False for names that no file may have.
    raise WeightsError(
      f"{path} is a folder; name the file in it (of a run: theta.safetensors)"
    )
  try:
    file = _tensor_file.read(
      path, kind=_KIND, version=_VERSION, max_bytes=_MAX_BYTES
    )
  except FileNotFoundError:
    raise WeightsError(
      f"there is no weights file {path}; to load shipped weights, name one of: "
      f"{', '.join(list_pretrained()) or 'none are shipped'}"
    ) from None
  except OSError as error:
    raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
  except _tensor_file.TensorFileError as error:
    raise WeightsError(f"{error}; get the file again") from error
  except ValueError as error:  # A null character, for one.
    raise WeightsError(f"{str(path)!r} is no path of a file") from error
  feature_set = file.description.get("feature_set")
  if type(feature_set) is not int:
    raise WeightsError(f"{path} is damaged: it has no version of its inputs")
  if feature_set != FEATURE_SET:
    given = _tensor_file.brief(feature_set)
    raise WeightsError(
      f"{path} was trained for inputs and steps of version {given}, and "
      f"this version of flt_lopt computes version {FEATURE_SET}; use the "
      "version of flt_lopt it was trained with, or train it again"
    )
  return path, file.description, _named_arrays.NamedArrays(file.tensors, {})


def _find(path_or_name: str | os.PathLike[str]) -> pathlib.Path:
  text = os.fspath(path_or_name)
  separators = {os.sep, os.altsep or os.sep}
  is_path = not isinstance(path_or_name, str) or text.endswith(_SUFFIX)
  if is_path or any(separator in text for separator in separators):
    try:
      return pathlib.Path(text).expanduser()
    except RuntimeError as error:
      raise WeightsError(
        f"{text} names the home of a user who has none here"
      ) from error
  known = list_pretrained()
  if text in known and _NAME.fullmatch(text):
    return _PRETRAINED / f"{text}{_SUFFIX}"
  close = difflib.get_close_matches(text, known, n=1)
  hint = f" Did you mean {close[0]!r}?" if close else ""
  raise WeightsError(
    f"there are no shipped weights named {text!r}; there are: "
    f"{', '.join(known) or 'none'}.{hint} To load a file, write its path "
    "with a folder, such as ./theta.safetensors"
  )


def _config(path: pathlib.Path | str, stored: Any) -> OptimizerConfig:
  try:
    if not isinstance(stored, dict):
      raise TypeError("it is no JSON object")
    _plain(list(stored))
    return OptimizerConfig(**{k: _plain(v) for k, v in stored.items()})
  except (TypeError, ValueError, RecursionError) as error:
    raise WeightsError(
      f"{path} has a configuration that this version of flt_lopt does not "
      f"know ({_tensor_file.brief(error)}); use the version it was saved with"
    ) from error


def _plain(value: Any, depth: int = 0) -> Any:
  """Checks a value and turns JSON's lists into the tuples of a config."""
  if isinstance(value, list | tuple):
    if depth == _MAX_DEPTH:
      raise ValueError(f"a list is nested more than {_MAX_DEPTH} deep")
    if len(value) > _MAX_ITEMS:
      raise ValueError(
        f"a list of {len(value)} items is longer than {_MAX_ITEMS}"
      )
    return tuple(_plain(item, depth + 1) for item in value)
  if isinstance(value, dict):
    raise ValueError("an object is no number, text or list")
  if isinstance(value, str) and len(value) > _MAX_TEXT:
    raise ValueError(
      f"a text of {len(value)} characters is longer than {_MAX_TEXT}"
    )
  if isinstance(value, int) and abs(value) > _MAX_SIZE:
    raise ValueError(f"the number {value} is larger than {_MAX_SIZE}")
  if isinstance(value, float) and not math.isfinite(value):
    raise ValueError(f"the number {value} is not finite")
  return value


def _check_theta(
  what: str, config: OptimizerConfig, named: _named_arrays.NamedArrays
) -> chex.ArrayTree:
  """Returns theta in the config's own structure, or raises."""
  try:
    init = LearnedOptimizer(config).init
    shapes = jax.eval_shape(init, jax.random.key(0))
    # NumPy arrays, so that weights can be loaded while jax traces, and kept.
    template = jax.tree.map(
      lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), shapes
    )
    theta = _named_arrays.unflatten(template, named)
  except (TypeError, ValueError, MemoryError) as error:
    raise WeightsError(
      f"{what} does not fit its own configuration: {_tensor_file.brief(error)}"
    ) from error
  for name, array in named.arrays.items():
    if not np.all(np.isfinite(array)):
      raise WeightsError(
        f"{what} has values in {name} that are not finite; the training "
        "diverged, or the file was altered"
      )
  return theta
