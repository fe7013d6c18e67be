"""Steps along matrices whose size does not follow the gradient's.

A tensor of three axes is a stack of matrices, unless its first axis is longer
than its second: then it is one matrix whose input is the first axis, such as
that of Flax's attention (model, heads, width of a head). One of four axes or
more is a convolution kernel, whose last axis is the output and all others the
input. Vectors and scalars stay as they are. What is meant otherwise, such as
an embedding or a stack of biases, can be given an optimizer of its own by
`optax.multi_transform`.

Normalised: a tensor D of two axes or more moves along
D / (RMS(D) sqrt(fan-in)), so that its step changes what it gives by the same
share whatever its shape; a stack has one RMS. An RMS below 0.01 counts as 0.01:
Adam's direction has 0.2 where gradients are noise, 1 where they agree, and less
where they shrink fast, as when a network fits all its data. Where gradients
have become zero, whose direction the memory still has, steps end; see the
safeguards in `flt_lopt.kernel`.

Orthogonal: of a matrix D = U S V^T the step goes along U V^T, by five
Newton-Schulz iterations (optax's), times sqrt(max(1, columns / rows)), as in
Muon. Its RMS is that of the normalised step, 1 / sqrt(fan-in): in one the
Frobenius norm of the step is fixed, in the other its spectral norm.

References: Jordan et al., "Muon: An optimizer for hidden layers in neural
networks" (2024); Bernstein and Newhouse, "Old optimizer, new norm: an
anthology" (2024).

Main names: `is_matrix`, `nominal`, `orthogonalize`, `muon_dimensions`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array, Float
from optax.contrib import MuonDimensionNumbers

from flt_lopt import _promotion

#: Directions of a smaller RMS count as this large where steps are relative.
MIN_DIRECTION = 0.01
STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def is_matrix(shape: tuple[int, ...]) -> bool:
  """Returns whether the geometry of matrices applies to a tensor."""
  return len(shape) >= 2 and int(np.prod(shape)) > 0


def muon_dimensions(shape: tuple[int, ...]) -> MuonDimensionNumbers | None:
  """Returns which axes are input and output, in optax's terms."""
  if not is_matrix(shape):
    return None
  if len(shape) == 3:
    if shape[0] > shape[1]:
      return MuonDimensionNumbers(reduction_axis=0, output_axis=(1, 2))
    return MuonDimensionNumbers(reduction_axis=1, output_axis=2)
  inputs = tuple(range(len(shape) - 1))
  return MuonDimensionNumbers(reduction_axis=inputs, output_axis=-1)


def fan_in(shape: tuple[int, ...]) -> int:
  """Returns the number of rows of a matrix, or of each in a stack."""
  return _sizes(shape)[1]


def _sizes(shape: tuple[int, ...]) -> tuple[int, int, int]:
  """Returns the number of matrices, and the rows and columns of each."""
  dimensions = muon_dimensions(shape)
  assert dimensions is not None
  rows, columns = (
    int(np.prod([shape[axis] for axis in np.atleast_1d(axes)]))
    for axes in (dimensions.reduction_axis, dimensions.output_axis)
  )
  return int(np.prod(shape)) // (rows * columns), rows, columns


class Nominal(NamedTuple):
  """Sizes of untrained steps, tensor by tensor; logarithms are natural.

  With p a tensor's parameters, d the direction and gamma a learned exponent,
  a step is exp(l) (RMS(p) / exp(s))^gamma RMS(d)^rho d / RMS(d) before the
  learned rate, RMS(d) at least 0.01. With gamma = 1 it is in proportion to the
  parameters.

  Attributes:
    log_length: l.
    log_size: s, usual size of parameters.
    rho: the exponent.
  """

  log_length: Float[np.ndarray, "tensors"]
  log_size: Float[np.ndarray, "tensors"]
  rho: Float[np.ndarray, "tensors"]


def nominal(geometry: str, shapes: Sequence[tuple[int, ...]]) -> Nominal:
  """Returns the sizes of untrained steps.

  Args:
    geometry: its name.
    shapes: of the tensors.
  """
  none = np.zeros(len(shapes))
  if geometry == "elementwise":
    return Nominal(none, none, none + 1.0)
  matrix = np.asarray([is_matrix(shape) for shape in shapes], bool)
  inputs = [fan_in(s) if is_matrix(s) else 1 for s in shapes]
  size = -0.5 * np.log(np.asarray(inputs, np.float64))
  if geometry == "orthogonal":  # The direction has that size.
    return Nominal(none, size, none + 1.0)
  return Nominal(size, size, np.where(matrix, 0.0, 1.0))


def orthogonalize(
  x: Float[Array, "..."], epsilon: float
) -> Float[Array, "..."]:
  """Returns the orthogonalised tensor, scaled by its shape.

  Args:
    x: of two axes or more, see the module's docstring.
    epsilon: added to its Frobenius norm, which it is divided by first.
  """
  stack, rows, columns = _sizes(x.shape)

  def orthogonal(x):
    matrices = x.reshape(stack, rows, columns)
    scale = max(1.0, columns / rows) ** 0.5
    return scale * _newton_schulz(matrices, epsilon).reshape(x.shape)

  sharding = jax.typeof(x).sharding
  if jax.sharding.AxisType.Explicit not in sharding.mesh.axis_types:
    return orthogonal(x)
  # How products of sharded matrices lie is the compiler's to choose.
  return jax.sharding.auto_axes(orthogonal, out_sharding=sharding)(x)


def _newton_schulz(matrices: Float[Array, "stack rows columns"], epsilon):
  # optax offers the iteration as a step of Muon; without momentum it is one.
  muon = optax.contrib.scale_by_muon(
    COEFFICIENTS,
    STEPS,
    beta=0.0,
    eps=epsilon,
    nesterov=False,
    weight_dimension_numbers=MuonDimensionNumbers(
      reduction_axis=1, output_axis=2
    ),
  )
  with _promotion.usual():
    return muon.update(matrices, muon.init(matrices))[0]
