"""One safetensors file with a description and a checksum in its header.

A safetensors file holds named arrays and a text header and can hold no code.
Ours keep everything else in one header entry, a JSON object with the file's
kind ("weights", "checkpoint"), its format version, a SHA-256 over names,
shapes, dtypes, bytes and description, and the description itself. Reading
checks all of it before any array is handed out. (One entry, because the
header's entries have no fixed order: equal content gives equal bytes.)

Main names: `write`, `read`, `brief`, `TensorFile`, `TensorFileError`.
"""

import hashlib
import json
import os
import pathlib
import stat
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from flt_lopt import _atomic_file

_ENTRY = "flt_lopt"
_MAX_QUOTE = 500
_MAX_HEADER_BYTES = 16 * 2**20
_DTYPES = {
  "BOOL": np.dtype(np.bool_),
  "U8": np.dtype(np.uint8),
  "I8": np.dtype(np.int8),
  "U16": np.dtype(np.uint16),
  "I16": np.dtype(np.int16),
  "U32": np.dtype(np.uint32),
  "I32": np.dtype(np.int32),
  "U64": np.dtype(np.uint64),
  "I64": np.dtype(np.int64),
  "F16": np.dtype(np.float16),
  "BF16": np.dtype(jnp.bfloat16),
  "F32": np.dtype(np.float32),
  "F64": np.dtype(np.float64),
}


class TensorFileError(ValueError):
  """A file that is damaged, foreign, or of another kind or version."""


class TensorFile(NamedTuple):
  """What a file holds.

  Attributes:
    tensors: arrays by name; read-only views of the file's bytes.
    description: the JSON object given to `write`.
  """

  tensors: dict[str, np.ndarray]
  description: dict[str, Any]


def brief(value: Any) -> str:
  """Returns the text of what a file says, cut to fit an error message."""
  text = str(value)
  if len(text) <= _MAX_QUOTE:
    return text
  return f"{text[:_MAX_QUOTE]}... ({len(text)} characters)"


def write(
  path: str | os.PathLike[str],
  tensors: dict[str, np.ndarray],
  *,
  kind: str,
  version: int,
  description: dict[str, Any],
) -> None:
  """Write named arrays and their description in one atomic step.

  Args:
    path: where to write; an existing file is replaced.
    tensors: arrays by name.
    kind: what the file is for; `read` asks for the same word.
    version: the version of the description's format.
    description: anything that JSON can hold, without NaN.

  Raises:
    TypeError: a dtype that a safetensors file cannot hold.
    OSError: the file cannot be written; an older one is untouched.
  """
  # Not ascontiguousarray: it makes a scalar one-dimensional.
  dense = {k: np.asarray(v, order="C") for k, v in tensors.items()}
  for name, array in dense.items():
    if array.dtype not in _DTYPES.values():
      raise TypeError(
        f"array {name!r} has dtype {array.dtype}, which a safetensors "
        "file cannot hold; convert it first"
      )
  header = {"kind": kind, "version": version, "description": description}
  header["sha256"] = _digest(dense, header)
  text = json.dumps(header, sort_keys=True, allow_nan=False)
  _atomic_file.write_bytes(
    path, safetensors.numpy.save(dense, metadata={_ENTRY: text})
  )


def read(
  path: str | os.PathLike[str],
  *,
  kind: str,
  version: int,
  max_bytes: int | None = None,
) -> TensorFile:
  """Read a file that `write` wrote, and check every part of it.

  Args:
    path: the file.
    kind: the kind the file must have.
    version: the newest version of the description the caller understands.
    max_bytes: refuse a larger file without reading it; None: no limit.

  Returns:
    The arrays and the description.

  Raises:
    TensorFileError: the file is damaged, cut short, foreign, of another
      kind, or of a newer version. The message starts with the path.
    OSError: the file is missing or not readable.
  """
  path = pathlib.Path(path)
  data = _read_bytes(path, max_bytes)
  try:
    entries = safetensors.deserialize(data)
    header = _header(data)
    tensors = {name: _array(entry) for name, entry in entries}
  except (safetensors.SafetensorError, ValueError, RecursionError) as error:
    raise TensorFileError(
      f"{path} is damaged or no safetensors file ({brief(error)})"
    ) from error
  if header is None:
    raise TensorFileError(
      f"{path} is a safetensors file of some other program: its header "
      f"has no {_ENTRY!r} entry"
    )
  if header["kind"] != kind:
    raise TensorFileError(
      f"{path} is a {brief(header['kind'])!r} file, not a {kind!r} file"
    )
  # Before the checksum: a newer version may compute it in another way.
  if header["version"] > version:
    raise TensorFileError(
      f"{path} has format version {brief(header['version'])}, and this "
      f"version of flt_lopt reads up to {version}; upgrade flt_lopt"
    )
  stated = header.pop("sha256")
  try:
    computed = _digest(tensors, header)
  except RecursionError as error:
    raise TensorFileError(
      f"{path} is damaged: its header is nested too deeply"
    ) from error
  if stated != computed:
    raise TensorFileError(
      f"{path} is damaged: its checksum does not fit its content"
    )
  return TensorFile(tensors, header["description"])


def _read_bytes(path: pathlib.Path, max_bytes: int | None) -> bytes:
  status = path.stat()
  if not stat.S_ISREG(status.st_mode):
    raise TensorFileError(f"{path} is not a regular file")
  if max_bytes is not None and status.st_size > max_bytes:
    raise TensorFileError(
      f"{path} is {status.st_size} bytes long, more than the {max_bytes} "
      "that such a file may have"
    )
  with path.open("rb") as file:
    length = int.from_bytes(file.read(8), "little")
    if length > min(status.st_size, _MAX_HEADER_BYTES):
      raise TensorFileError(
        f"{path} is damaged or no safetensors file (it claims a "
        f"header of {length} bytes)"
      )
    file.seek(0)
    return file.read()


def _header(data: bytes) -> dict[str, Any] | None:
  """Return our entry of the header, or None where there is none."""
  length = int.from_bytes(data[:8], "little")
  metadata = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
  if _ENTRY not in metadata:
    return None
  header = json.loads(metadata[_ENTRY])
  types = {"kind": str, "version": int, "sha256": str, "description": dict}
  if not isinstance(header, dict) or set(header) != set(types):
    raise ValueError(f"the header's {_ENTRY!r} entry is malformed")
  for field, type_ in types.items():
    if type(header[field]) is not type_:
      raise ValueError(f"the header's field {field!r} is malformed")
  return header


def _array(entry: dict[str, Any]) -> np.ndarray:
  if entry["dtype"] not in _DTYPES:
    raise ValueError(f"dtype {entry['dtype']} is not supported")
  array = np.frombuffer(entry["data"], dtype=_DTYPES[entry["dtype"]])
  return array.reshape(entry["shape"])


def _digest(tensors: dict[str, np.ndarray], header: dict[str, Any]) -> str:
  digest = hashlib.sha256()
  digest.update(json.dumps(header, sort_keys=True).encode())
  for name in sorted(tensors):
    array = tensors[name]
    shape = tuple(int(size) for size in array.shape)
    digest.update(repr((name, array.dtype.name, shape)).encode())
    digest.update(array.tobytes())
  return digest.hexdigest()
