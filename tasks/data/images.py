"""Work on arrays of images: resizing by area, and patches.

Main names: `resize`, `patches`.
"""

import numpy as np


def overlap(num_in: int, num_out: int) -> np.ndarray:
  """Returns the matrix [out, in] that averages pixels by overlapping area."""
  edges_in = np.arange(num_in + 1) / num_in
  edges_out = np.arange(num_out + 1) / num_out
  low = np.maximum(edges_out[:-1, None], edges_in[None, :-1])
  high = np.minimum(edges_out[1:, None], edges_in[None, 1:])
  return (np.maximum(high - low, 0) * num_out).astype(np.float32)


def resize(images: np.ndarray, size: int) -> np.ndarray:
  """Resizes images [n, height, width, channels] to `size` x `size`.

  Each new pixel is the mean over the area that it covers. Bytes stay bytes.
  """
  rows = overlap(images.shape[1], size)
  columns = overlap(images.shape[2], size)
  out = np.empty((len(images), size, size, images.shape[3]), images.dtype)
  for begin in range(0, len(images), 1024):
    block = images[begin : begin + 1024].astype(np.float32)
    block = np.einsum("nhwc,yh,xw->nyxc", block, rows, columns, optimize=True)
    if images.dtype == np.uint8:
      block = np.clip(np.rint(block), 0, 255)
    out[begin : begin + 1024] = block.astype(images.dtype)
  return out


def patches(photograph: np.ndarray, size: int, stride: int) -> np.ndarray:
  """Cuts a photograph [height, width, channels] into square patches.

  Returns:
    Patches [n, size, size, channels], left to right in columns of patches:
    the first patches come from the left edge, the last from the right.
  """
  windows = np.lib.stride_tricks.sliding_window_view(
    photograph, (size, size), axis=(0, 1)
  )[::stride, ::stride]
  columns_first = windows.transpose(1, 0, 3, 4, 2)
  return columns_first.reshape(-1, size, size, photograph.shape[2])
