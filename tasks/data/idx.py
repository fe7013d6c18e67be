"""The IDX format of MNIST and Fashion-MNIST, plain or compressed by gzip.

Four bytes of magic (0, 0, type, number of axes), the length of each axis as
a big-endian 32-bit number, then the values in row-major order (Y. LeCun, C.
Cortes, C. Burges, "The MNIST database of handwritten digits", 1998; H. Xiao
et al., "Fashion-MNIST", 2017).

Main names: `read_idx`.
"""

import gzip
import math
import pathlib
import zlib

import numpy as np

from tasks.data import files

_BYTES = 0x08  # Unsigned bytes: the only type that these data sets use.


def read_idx(path: pathlib.Path) -> np.ndarray:
  """Reads an IDX file of unsigned bytes.

  Args:
    path: File; compressed if its name ends in `.gz`.

  Returns:
    Array of bytes.

  Raises:
    ValueError: If the file is truncated or altered.
  """
  raw = _read(path)
  if len(raw) < 4 or raw[:2] != b"\0\0":
    raise files.damaged(path, "it does not begin with an IDX header")
  if raw[2] != _BYTES:
    raise files.damaged(path, f"its type is {raw[2]:#x}, not unsigned bytes")
  begin = 4 + 4 * raw[3]
  shape = tuple(np.frombuffer(raw[4:begin], ">u4").tolist())
  if len(shape) != raw[3] or len(raw) - begin != math.prod(shape):
    raise files.damaged(
      path,
      f"its header states the shape {shape}, but {len(raw) - begin} values"
      " follow",
    )
  return np.frombuffer(raw, np.uint8, offset=begin).reshape(shape)


def _read(path: pathlib.Path) -> bytes:
  if path.suffix != ".gz":
    return path.read_bytes()
  try:
    with gzip.open(path) as stream:
      return stream.read()
  except (EOFError, OSError, zlib.error) as error:
    raise files.damaged(path, f"gzip says: {error}") from error
