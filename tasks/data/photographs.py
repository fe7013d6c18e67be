"""Two photographs that ship with scikit-learn: a temple and a flower.

`photographs` serves patches of 16 x 16 pixels as images without labels, and
`photographs_patch8` and `photographs_patch32` smaller and larger ones of the
same grain; neural fields fit crops. Parts are vertical strips of both
photographs and splits are horizontal bands of a part, the same for every
size of patch, and no patch crosses into another.

Main names: `photograph`.
"""

import functools

import numpy as np

from tasks import names
from tasks.base import SPLITS
from tasks.data import images, sklearn_files
from tasks.data.base import ArrayData, part_range, split_range
from tasks.data.sources import register

PHOTOGRAPHS = ("china", "flower")
NAMES = {16: "photographs", 8: "photographs_patch8", 32: "photographs_patch32"}


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
  path = sklearn_files.find(f"images/{name}.jpg")
  try:
    if path is not None:
      from PIL import Image

      return np.asarray(Image.open(path))
    from sklearn import datasets

    return np.asarray(datasets.load_sample_image(f"{name}.jpg"))
  except ImportError as error:
    raise ImportError(
      "The photographs are part of scikit-learn and are decoded by Pillow;"
      " install the extra `data`, or scikit-learn and pillow."
    ) from error


def photograph_patches(
  size: int, part: str, data_dir: str | None = None
) -> ArrayData:
  """Patches of `size` x `size` pixels in colour: `image` in [0, 1]."""
  del data_dir
  found: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
  for name in PHOTOGRAPHS:
    pixels = photograph(name)
    strip = pixels[:, slice(*part_range(pixels.shape[1], part))]
    for split, (begin, end) in split_range(0, len(strip)).items():
      band = strip[begin:end]
      found[split].append(images.patches(band, size, size // 2))
  counts = [sum(map(len, found[split])) for split in SPLITS]
  ends = np.cumsum(counts)
  return ArrayData(
    NAMES[size],
    part,
    {"image": np.concatenate([x for split in SPLITS for x in found[split]])},
    {s: np.arange(e - n, e) for s, e, n in zip(SPLITS, ends, counts)},
  )


for _size, _name in NAMES.items():
  register(_name, origin="photographs")(
    functools.partial(photograph_patches, _size)
  )
