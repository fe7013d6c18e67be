"""CIFAR-10 and CIFAR-100 in their published python and binary formats.

Both are read from the published `.tar.gz` or from its unpacked folder (A.
Krizhevsky, "Learning multiple layers of features from tiny images", 2009).

Main names: `read_cifar`.
"""

import math
import pathlib
import tarfile
import zlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tasks.data import files
from tasks.data.restricted_pickle import read_pickle

_PIXELS = 32 * 32 * 3


class _Format(NamedTuple):
  """One published form: where the files are and how to read one."""

  archive: str
  folder: str
  train: tuple[str, ...]
  test: tuple[str, ...]
  parse: Callable[[bytes], tuple[np.ndarray, np.ndarray]]


def _parse_python(field: str) -> Callable:
  def parse(raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    found = read_pickle(raw)
    missing = {"data", field} - set(found)
    if missing:
      raise ValueError(f"its fields {sorted(missing)} are missing")
    return found["data"], np.asarray(found[field], np.int32)

  return parse


def _parse_binary(num_label_bytes: int) -> Callable:
  def parse(raw: bytes) -> tuple[np.ndarray, np.ndarray]:
    record = num_label_bytes + _PIXELS
    if not raw or len(raw) % record:
      raise ValueError(f"its {len(raw)} bytes are no multiple of {record}")
    rows = np.frombuffer(raw, np.uint8).reshape(-1, record)
    # CIFAR-100 stores the coarse label first; the fine one is last.
    labels = rows[:, num_label_bytes - 1].astype(np.int32)
    return rows[:, num_label_bytes:], labels

  return parse


_FORMATS = {
  "cifar10": (
    _Format(
      "cifar-10-binary.tar.gz",
      "cifar-10-batches-bin",
      tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
      ("test_batch.bin",),
      _parse_binary(1),
    ),
    _Format(
      "cifar-10-python.tar.gz",
      "cifar-10-batches-py",
      tuple(f"data_batch_{i}" for i in range(1, 6)),
      ("test_batch",),
      _parse_python("labels"),
    ),
  ),
  "cifar100": (
    _Format(
      "cifar-100-binary.tar.gz",
      "cifar-100-binary",
      ("train.bin",),
      ("test.bin",),
      _parse_binary(2),
    ),
    _Format(
      "cifar-100-python.tar.gz",
      "cifar-100-python",
      ("train",),
      ("test",),
      _parse_python("fine_labels"),
    ),
  ),
}
_NUM_CLASSES = {"cifar10": 10, "cifar100": 100}


def read_cifar(
  source: str, data_dir: str | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
  """Reads CIFAR.

  Args:
    source: `"cifar10"` or `"cifar100"`.
    data_dir: Folder with the archive or its unpacked folder.

  Returns:
    Training images as bytes [n, 32, 32, 3], training labels, and the same
    of the published test set.

  Raises:
    FileNotFoundError: If there is neither archive nor folder.
    ValueError: If a file is damaged or holds anything unexpected.
  """
  root = files.folder(source, data_dir)
  for base in (root, root / source):
    for form in _FORMATS[source]:
      if (base / form.folder).is_dir():
        raw = _from_folder(base / form.folder, form)
      elif (base / form.archive).is_file():
        raw = _from_archive(base / form.archive, form)
      else:
        continue
      train = _collect(raw, form, form.train, source)
      return (*train, *_collect(raw, form, form.test, source))
  expected = [name for f in _FORMATS[source] for name in (f.archive, f.folder)]
  raise FileNotFoundError(
    f"The data source {source!r} needs one of {', '.join(expected)} in {root}."
  )


def _from_folder(path: pathlib.Path, form: _Format) -> dict[str, bytes]:
  missing = [n for n in (*form.train, *form.test) if not (path / n).is_file()]
  if missing:
    raise FileNotFoundError(f"{path} lacks {', '.join(missing)}.")
  return {n: (path / n).read_bytes() for n in (*form.train, *form.test)}


def _from_archive(path: pathlib.Path, form: _Format) -> dict[str, bytes]:
  try:
    with tarfile.open(path) as archive:
      found = {}
      for name in (*form.train, *form.test):
        stream = archive.extractfile(f"{form.folder}/{name}")
        if stream is None:
          raise KeyError(f"{name} is no plain file")
        found[name] = stream.read()
      return found
  except (tarfile.TarError, KeyError, EOFError, OSError, zlib.error) as error:
    raise files.damaged(path, str(error)) from error


def _collect(
  raw: dict[str, bytes], form: _Format, file_names: tuple[str, ...], source: str
) -> tuple[np.ndarray, np.ndarray]:
  images, labels = [], []
  for file_name in file_names:
    try:
      pixels, label = form.parse(raw[file_name])
      _check(pixels, label, _NUM_CLASSES[source])
    except ValueError as error:
      raise files.damaged(file_name, str(error)) from error
    planes = pixels.reshape(-1, 3, 32, 32)
    images.append(planes.transpose(0, 2, 3, 1))
    labels.append(label)
  return np.concatenate(images), np.concatenate(labels)


def _check(pixels: np.ndarray, label: np.ndarray, num_classes: int) -> None:
  if not isinstance(pixels, np.ndarray) or pixels.ndim != 2:
    raise ValueError("its images are no table of bytes")
  if pixels.shape != (len(label), _PIXELS) or not math.prod(pixels.shape):
    raise ValueError(
      f"its images have the shape {pixels.shape}, its labels {label.shape}"
    )
  if label.min() < 0 or label.max() >= num_classes:
    raise ValueError(f"a label is not in 0..{num_classes - 1}")
