"""Two photographs that ship with scikit-learn: a temple and a flower.

`photographs` serves patches as images without labels; neural fields fit one
whole photograph. Parts and splits are vertical strips of both photographs,
and no patch crosses into another strip.

Main names: `photograph`.
"""

import functools

import numpy as np

from tasks import names
from tasks.base import SPLITS
from tasks.data import images
from tasks.data.base import ArrayData, range_splits
from tasks.data.sources import register

PHOTOGRAPHS = ("china", "flower")
PATCH = 16


@functools.cache
def photograph(name: str) -> np.ndarray:
  """Loads a photograph of 427 x 640 pixels.

  Args:
    name: `"china"` or `"flower"`.

  Returns:
    Bytes [height, width, 3].
  """
  if name not in PHOTOGRAPHS:
    raise names.unknown_name("photograph", name, PHOTOGRAPHS)
  try:
    from sklearn import datasets

    return np.asarray(datasets.load_sample_image(f"{name}.jpg"))
  except ImportError as error:
    raise ImportError(
      "The photographs are part of scikit-learn and are decoded by Pillow;"
      " install the extra `data`, or scikit-learn and pillow."
    ) from error


@register("photographs")
def photograph_patches(part: str, data_dir: str | None = None) -> ArrayData:
  """Patches of 16 x 16 pixels in colour: `image` in [0, 1]."""
  del data_dir
  found: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
  for name in PHOTOGRAPHS:
    pixels = photograph(name)
    for split, (begin, end) in range_splits(pixels.shape[1], part).items():
      strip = pixels[:, begin:end]
      found[split].append(images.patches(strip, PATCH, PATCH // 2))
  counts = [sum(map(len, found[split])) for split in SPLITS]
  ends = np.cumsum(counts)
  return ArrayData(
    "photographs",
    part,
    {"image": np.concatenate([x for split in SPLITS for x in found[split]])},
    {s: np.arange(e - n, e) for s, e, n in zip(SPLITS, ends, counts)},
  )
