"""The small real data sets that ship with scikit-learn.

`digits` is 1,797 images of 8x8 pixels from the UCI repository (E. Alpaydin
and C. Kaynak, 1998), `wine`, `breast_cancer` and `iris` are tables with
classes and `diabetes` (Efron et al., "Least angle regression", 2004) is a
table with a real target. Features of tables are standardised with the
statistics of the part's training split.

Main names: `load_digits`.
"""

import functools

import numpy as np

from tasks.data import sklearn_files
from tasks.data.base import ArrayData, index_splits
from tasks.data.sources import register

_TABLES = ("wine", "breast_cancer", "iris")


@functools.cache
def _load(name: str) -> tuple[np.ndarray, np.ndarray]:
  try:
    from sklearn import datasets
  except ImportError as error:
    raise ImportError(
      f"The data source {name!r} is part of scikit-learn, which is not"
      " installed; install the extra `data` or scikit-learn itself."
    ) from error
  bunch = getattr(datasets, f"load_{name}")()
  return np.asarray(bunch.data, np.float32), np.asarray(bunch.target)


def load_digits() -> tuple[np.ndarray, np.ndarray]:
  """Returns pixels [images, 64], 0 to 16, and the digits."""
  path = sklearn_files.find("data/digits.csv.gz")
  if path is None:
    return _load("digits")
  table = np.loadtxt(path, np.float32, delimiter=",")
  return table[:, :-1], table[:, -1]


@register("digits")
def digits(part: str, data_dir: str | None = None) -> ArrayData:
  """Handwritten digits: `image` [8, 8, 1] in [0, 1] and `label` below 10."""
  del data_dir
  pixels, target = load_digits()
  arrays: dict[str, np.ndarray] = {
    "image": pixels.reshape(-1, 8, 8, 1) / np.float32(16),
    "label": target.astype(np.int32),
  }
  return ArrayData("digits", part, arrays, index_splits(len(target), part))


def _standardised(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
  mean, std = x[rows].mean(0), x[rows].std(0)
  return ((x - mean) / (std + 1e-6)).astype(np.float32)


def _table(name: str, part: str, data_dir: str | None) -> ArrayData:
  del data_dir
  x, target = _load(name)
  splits = index_splits(len(x), part)
  arrays = {
    "x": _standardised(x, splits["train"]),
    "label": np.asarray(target, np.int32),
  }
  return ArrayData(name, part, arrays, splits)


for _name in _TABLES:
  register(_name)(functools.partial(_table, _name))


@register("diabetes")
def diabetes(part: str, data_dir: str | None = None) -> ArrayData:
  """Disease progression: `x` [10] and a standardised real `y`."""
  del data_dir
  x, target = _load("diabetes")
  splits = index_splits(len(x), part)
  y = target.astype(np.float32)[:, None]
  arrays = {
    "x": _standardised(x, splits["train"]),
    "y": _standardised(y, splits["train"])[:, 0],
  }
  return ArrayData("diabetes", part, arrays, splits)
