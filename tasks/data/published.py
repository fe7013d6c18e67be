"""Standard data sets, read from files that the user provides.

Parts and the splits `train` and `valid` are cut from the published training
set. The published test set serves as the split `test` of the held-out part
and nowhere else. `name@8` is the data set resized to 8 x 8 pixels.

Sources: `mnist`, `fashion_mnist`, `cifar10`, `cifar100`, `svhn`, `npz` and
`text_file`.
"""

import functools
import pathlib
import zipfile

import numpy as np

from tasks.data import files
from tasks.data.base import ArrayData, index_splits
from tasks.data.cifar import read_cifar
from tasks.data.idx import read_idx
from tasks.data.sources import register
from tasks.data.tokens import TokenData, byte_data

# Data is a constant of the compiled program: more would slow compilation.
MAX_SPLIT_BYTES = 16 << 20
_SVHN_KEYS = {"X", "y"}
_NPZ_FIELDS = (
  ("x_train", "y_train", "x_test", "y_test"),
  ("image", "label", None, None),
  ("x", "y", None, None),
)


def labelled_images(
  name: str,
  part: str,
  images: np.ndarray,
  labels: np.ndarray,
  test_images: np.ndarray | None = None,
  test_labels: np.ndarray | None = None,
) -> ArrayData:
  """Makes a data set of images [n, height, width, channels] and labels."""
  splits = index_splits(len(images), part)
  if test_images is not None and part == "held_out":
    rows = np.arange(len(images), len(images) + len(test_images))
    splits["test"] = rows
    images = np.concatenate([images, test_images])
    labels = np.concatenate([labels, test_labels])
  limit = max(1, MAX_SPLIT_BYTES // images[0].nbytes)
  splits = {split: _thin(rows, limit) for split, rows in splits.items()}
  arrays = {"image": images, "label": labels.astype(np.int32)}
  return ArrayData(name, part, arrays, splits)


def _thin(rows: np.ndarray, limit: int) -> np.ndarray:
  """Keeps at most `limit` rows, evenly spaced."""
  if len(rows) <= limit:
    return rows
  return rows[np.linspace(0, len(rows) - 1, limit).astype(int)]


def _check_lengths(path, images: np.ndarray, labels: np.ndarray) -> None:
  if len(images) != len(labels) or not len(images):
    raise files.damaged(
      path, f"there are {len(images)} images and {len(labels)} labels"
    )


def _idx_pair(
  source: str, data_dir: str | None, prefix: str
) -> tuple[np.ndarray, np.ndarray]:
  found = []
  for stem, axes in (("images-idx3-ubyte", 3), ("labels-idx1-ubyte", 1)):
    name = f"{prefix}-{stem}"
    path = files.find(source, data_dir, f"{name}.gz", name)
    values = read_idx(path)
    if values.ndim != axes:
      raise files.damaged(path, f"it has {values.ndim} axes, not {axes}")
    found.append(values)
  _check_lengths(path, *found)
  return found[0][..., None], found[1]


def _idx(source: str, part: str, data_dir: str | None) -> ArrayData:
  train = _idx_pair(source, data_dir, "train")
  test = _idx_pair(source, data_dir, "t10k")
  return labelled_images(source, part, *train, *test)


def _cifar(source: str, part: str, data_dir: str | None) -> ArrayData:
  return labelled_images(source, part, *read_cifar(source, data_dir))


def _read_svhn(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
  from scipy import io

  try:
    found = io.loadmat(str(path), variable_names=sorted(_SVHN_KEYS))
  except Exception as error:  # scipy raises nearly anything.
    raise files.damaged(path, f"scipy says: {error}") from error
  if not set(found) >= _SVHN_KEYS:
    raise files.damaged(path, "it lacks the variables X and y")
  images, labels = np.moveaxis(found["X"], -1, 0), found["y"].reshape(-1)
  if images.shape[1:] != (32, 32, 3) or images.dtype != np.uint8:
    raise files.damaged(path, f"X is {images.dtype} {found['X'].shape}")
  _check_lengths(path, images, labels)
  if labels.min() < 1 or labels.max() > 10:
    raise files.damaged(path, "a label is not in 1..10")
  return np.ascontiguousarray(images), labels.astype(np.int32) % 10


@register("svhn")
def svhn(part: str, data_dir: str | None = None) -> ArrayData:
  """House numbers, cropped (Y. Netzer et al., 2011); the label 10 means 0."""
  train = _read_svhn(files.find("svhn", data_dir, "train_32x32.mat"))
  test = _read_svhn(files.find("svhn", data_dir, "test_32x32.mat"))
  return labelled_images("svhn", part, *train, *test)


@register("npz")
def npz(part: str, data_dir: str | None = None) -> ArrayData:
  """Any labelled images: `data_dir` is an .npz file or a folder with one.

  Fields are `x_train`, `y_train`, `x_test`, `y_test`, or `image`, `label`,
  or `x`, `y`; images are bytes, or floats in [0, 1].
  """
  path = files.folder("npz", data_dir)
  if path.is_dir():
    found = sorted(path.glob("*.npz"))
    if len(found) != 1:
      raise FileNotFoundError(
        f"{path} has {len(found)} .npz files; let data_dir name one."
      )
    path = found[0]
  try:
    with np.load(path, allow_pickle=False) as archive:
      arrays = {name: archive[name] for name in archive.files}
  except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
    raise files.damaged(path, str(error)) from error
  for names in _NPZ_FIELDS:
    if all(name in arrays for name in names if name):
      parts = [arrays[name] if name else None for name in names]
      return _npz_images(path, part, parts)
  raise files.damaged(
    path, f"its fields are {sorted(arrays)}, not x_train, y_train, ..."
  )


def _npz_images(path: pathlib.Path, part: str, parts: list) -> ArrayData:
  for i in (0, 2):
    if parts[i] is None:
      continue
    if parts[i].ndim == 3:
      parts[i] = parts[i][..., None]
    if parts[i].ndim != 4:
      raise files.damaged(path, f"its images have the shape {parts[i].shape}")
    if parts[i].dtype != np.uint8:
      parts[i] = parts[i].astype(np.float32)
    parts[i + 1] = parts[i + 1].reshape(-1)
    _check_lengths(path, parts[i], parts[i + 1])
  return labelled_images("npz", part, *parts)


@register("text_file")
def text_file(part: str, data_dir: str | None = None) -> TokenData:
  """Bytes of a text: `data_dir` is a file, or a folder of .txt files."""
  path = files.folder("text_file", data_dir)
  paths = sorted(path.glob("*.txt")) if path.is_dir() else [path]
  if not paths:
    raise FileNotFoundError(f"{path} has no .txt files.")
  text = b"\n".join(p.read_bytes() for p in paths)[:MAX_SPLIT_BYTES]
  return byte_data("text_file", part, text)


for _name in ("mnist", "fashion_mnist"):
  register(_name)(functools.partial(_idx, _name))
for _name in ("cifar10", "cifar100"):
  register(_name)(functools.partial(_cifar, _name))
