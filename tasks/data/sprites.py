"""Coloured shapes at random places and sizes, on dark ground.

After I. Higgins et al., "beta-VAE" (the data set dSprites, 2017): disc,
ring, square, frame, cross and bar. Drawing is too slow for an inner loop,
so that a fixed number of sprites is drawn when they are first used.

Main names: `draw_sprites`.
"""

import functools

import numpy as np

from tasks.data.base import ArrayData, index_splits
from tasks.data.sources import register

SIZE = 12
SHAPES = ("disc", "ring", "square", "frame", "cross", "bar")
_COUNT = 8192


@functools.cache
def draw_sprites(count: int = _COUNT) -> dict[str, np.ndarray]:
  """Draws sprites.

  Args:
    count: How many.

  Returns:
    `image` as bytes [count, 12, 12, 3], `label` the shape, `pose` [count, 3]:
    the centre in [-1, 1] and the radius.
  """
  random = np.random.RandomState(611)
  label = random.randint(0, len(SHAPES), count)
  radius = random.uniform(0.4, 0.7, (count, 1, 1))
  centre = random.uniform(-0.3, 0.3, (count, 2))
  axis = np.linspace(-1, 1, SIZE)
  y = np.abs(axis[None, :, None] - centre[:, 0, None, None]) / radius
  x = np.abs(axis[None, None, :] - centre[:, 1, None, None]) / radius
  disc, square = np.hypot(x, y), np.maximum(x, y)
  # Each is below 1 inside of the shape and above 1 outside.
  distance = np.stack(
    [
      disc,
      3 * np.abs(disc - 0.75) + 0.25,
      square,
      3 * np.abs(square - 0.75) + 0.25,
      np.maximum(4 * np.minimum(x, y), square),
      np.maximum(4 * y, x),
    ]
  )
  chosen = distance[label, np.arange(count)]
  mask = 1 / (1 + np.exp(np.clip(8 * (chosen - 1), -30, 30)))
  front = random.uniform(0.5, 1.0, (count, 1, 1, 3))
  back = random.uniform(0.0, 0.2, (count, 1, 1, 3))
  image = back + mask[..., None] * (front - back)
  image = image + 0.02 * random.normal(size=image.shape)
  pose = np.concatenate([centre, radius[:, :, 0]], axis=1)
  return {
    "image": np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8),
    "label": label.astype(np.int32),
    "pose": pose.astype(np.float32),
  }


@register("sprites")
def sprites(part: str, data_dir: str | None = None) -> ArrayData:
  """Sprites: `image` [12, 12, 3], `label` of six shapes, `pose` [3]."""
  del data_dir
  arrays = draw_sprites()
  return ArrayData("sprites", part, arrays, index_splits(_COUNT, part))
