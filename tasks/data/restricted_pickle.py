"""Reads arrays of bytes out of a pickle without running anything from it.

CIFAR's "python version" is a pickle. Python's own reader would call
whatever a file asks for; this one knows three names, all of which become
inert records here, and refuses every other.

Main names: `read_pickle`.
"""

import io
import math
import pickle
from typing import Any

import numpy as np


class _Dtype:
  """What a file says of an array's type."""

  def __init__(self, code: Any = None, *unused: Any):
    self.code = code.decode("latin1") if isinstance(code, bytes) else code

  def __setstate__(self, state: Any) -> None:
    del state  # Byte order and the like: single bytes have none.


class _Array:
  """What a file says of an array."""

  value: np.ndarray | None = None

  def __init__(self, *unused: Any):
    pass

  def __setstate__(self, state: Any) -> None:
    _, shape, dtype, is_fortran, raw = state
    if dtype.code not in ("u1", "|u1") or not isinstance(raw, bytes | str):
      raise pickle.UnpicklingError("an array is not made of unsigned bytes")
    raw = raw.encode("latin1") if isinstance(raw, str) else raw
    if len(raw) != math.prod(shape):
      raise pickle.UnpicklingError("an array's length differs from its shape")
    flat = np.frombuffer(raw, np.uint8)
    self.value = (
      flat.reshape(shape[::-1]).T if is_fortran else flat.reshape(shape)
    )


def _encode(text: str, encoding: str = "latin1") -> bytes:
  if encoding not in ("latin1", "latin-1", "iso-8859-1"):
    raise pickle.UnpicklingError(f"the encoding {encoding!r} is not allowed")
  return text.encode("latin1")


_ALLOWED = {
  ("numpy.core.multiarray", "_reconstruct"): _Array,
  ("numpy._core.multiarray", "_reconstruct"): _Array,
  ("numpy", "ndarray"): None,
  ("numpy", "dtype"): _Dtype,
  ("_codecs", "encode"): _encode,
}


class _Reader(pickle.Unpickler):
  """A reader that knows no functions but those above."""

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in _ALLOWED:
      raise pickle.UnpicklingError(f"the name {module}.{name} is not allowed")
    return _ALLOWED[module, name]

  def persistent_load(self, pid: Any) -> Any:
    raise pickle.UnpicklingError("references out of the file are not allowed")


def read_pickle(raw: bytes) -> dict[str, Any]:
  """Reads a dictionary of byte arrays, numbers, strings and lists.

  Args:
    raw: Contents of the file.

  Returns:
    The dictionary, with keys as text.

  Raises:
    ValueError: If the file is damaged or asks for anything else.
  """
  try:
    found = _Reader(io.BytesIO(raw), encoding="bytes").load()
  except Exception as error:  # Damaged pickles raise nearly anything.
    raise ValueError(f"its pickle was refused ({error})") from error
  if not isinstance(found, dict):
    raise ValueError(f"its pickle is a {type(found).__name__}, no dictionary")
  return {_text(key): _plain(value) for key, value in found.items()}


def _text(key: Any) -> str:
  return key.decode("latin1") if isinstance(key, bytes) else str(key)


def _plain(value: Any) -> Any:
  return value.value if isinstance(value, _Array) else value
