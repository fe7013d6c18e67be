"""Steps along matrices whose size does not follow the gradient's.

Which axes of a tensor are its input and its output is told by its shape and
its role (`flt_lopt.roles`). The input is first, unless the role is
OUTPUT_FIRST. A tensor of three axes is a stack of matrices, unless its input
is first and longer than the second axis: then it is one matrix with the others
as its output. One of four axes or more is a convolution kernel, whose output is
its last axis, or its first, and the input all others. TO_HEADS and FROM_HEADS
are matrices of which one side has two axes, and more axes before them a stack.
Vectors, scalars and ENTRIES, such as embeddings, of whose rows a step sees few,
move as Adam would move them.

Normalised: a matrix D moves along

    D / (RMS(D) sqrt(fan-in) sqrt(max(1, fan-in / 32))),

a stack has one RMS. For a wide layer that is 1 / fan-in: with more inputs,
which a step moves all together, what it changes does not grow, so that steps
that suit a narrow network suit a wide one (Yang and others' maximal update
parametrisation). From few inputs a step is in proportion to usual parameters.
An RMS below 0.01 counts as 0.01: Adam's direction has 0.2 where gradients are
noise, 1 where they agree, and less where they shrink fast, as when a network
fits all its data. Where gradients have become zero, whose direction the memory
still has, steps end; see the safeguards in `flt_lopt.kernel`.

Orthogonal: of a matrix D = U S V^T the step goes along U V^T, by five
Newton-Schulz iterations (optax's), times sqrt(max(1, outputs / inputs)), as
in Muon. Its RMS is 1 / sqrt(fan-in), and its spectral norm does not grow with
the inputs.

References: Jordan et al., "Muon: An optimizer for hidden layers in neural
networks" (2024); Bernstein and Newhouse, "Old optimizer, new norm: an
anthology" (2024); Yang et al., "Tensor Programs V: Tuning large neural
networks via zero-shot hyperparameter transfer" (2022).

How deep a model is follows from its tensors too: `depth` is the number of their
matrices, those of stacks counted, and convolution kernels, from 1 to 8.

Main names: `is_matrix`, `nominal`, `depth`, `orthogonalize`, `muon_dimensions`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import Array, Float
from optax.contrib import MuonDimensionNumbers

from flt_lopt import _promotion, roles
from flt_lopt.layout import TensorInfo

#: Directions of a smaller RMS count as this large where steps are relative.
MIN_DIRECTION = 0.01
#: Inputs beyond which a normalised step shrinks as they grow in number.
NARROW = 32
#: More matrices count as this many.
MAX_DEPTH = 8
STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def is_matrix(tensor: TensorInfo) -> bool:
  """Returns whether the geometry of matrices applies to a tensor."""
  return (
    len(tensor.shape) >= 2 and tensor.size > 0 and tensor.role != roles.ENTRIES
  )


def muon_dimensions(tensor: TensorInfo) -> MuonDimensionNumbers | None:
  """Returns which axes are input and output, in optax's terms."""
  if not is_matrix(tensor):
    return None
  shape, last = tensor.shape, len(tensor.shape) - 1
  if len(shape) > 2 and tensor.role == roles.TO_HEADS:
    return MuonDimensionNumbers(last - 2, (last - 1, last))
  if len(shape) > 2 and tensor.role == roles.FROM_HEADS:
    return MuonDimensionNumbers((last - 2, last - 1), last)
  first = tensor.role != roles.OUTPUT_FIRST
  if len(shape) == 3:
    if first and shape[0] > shape[1]:
      return MuonDimensionNumbers(reduction_axis=0, output_axis=(1, 2))
    inputs, outputs = (1, 2) if first else (2, 1)
    return MuonDimensionNumbers(inputs, outputs)
  axes = tuple(range(len(shape)))
  if first:
    return MuonDimensionNumbers(reduction_axis=axes[:-1], output_axis=-1)
  return MuonDimensionNumbers(reduction_axis=axes[1:], output_axis=0)


def fan_in(tensor: TensorInfo) -> int:
  """Returns the number of inputs of a matrix, or of each in a stack."""
  return _sizes(tensor)[1]


def depth(tensors: Sequence[TensorInfo]) -> int:
  """Returns how many matrices a model's steps move together, from 1 to 8."""
  matrices = sum(_sizes(t)[0] for t in tensors if is_matrix(t))
  return min(max(matrices, 1), MAX_DEPTH)


def _sizes(tensor: TensorInfo) -> tuple[int, int, int]:
  """Returns the number of matrices, and the inputs and outputs of each."""
  dimensions = muon_dimensions(tensor)
  assert dimensions is not None
  rows, columns = (
    int(np.prod([tensor.shape[axis] for axis in np.atleast_1d(axes)]))
    for axes in (dimensions.reduction_axis, dimensions.output_axis)
  )
  return tensor.size // (rows * columns), rows, columns


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


def nominal(geometry: str, tensors: Sequence[TensorInfo]) -> Nominal:
  """Returns the sizes of untrained steps.

  Args:
    geometry: its name.
    tensors: their facts.
  """
  none = np.zeros(len(tensors))
  if geometry == "elementwise":
    return Nominal(none, none, none + 1.0)
  matrix = np.asarray([is_matrix(t) for t in tensors], bool)
  inputs = np.asarray(
    [fan_in(t) if is_matrix(t) else 1 for t in tensors], np.float64
  )
  size = -0.5 * np.log(inputs)
  if geometry == "orthogonal":  # The direction has that size.
    return Nominal(none, size, none + 1.0)
  length = size - 0.5 * np.log(np.maximum(inputs / NARROW, 1.0))
  return Nominal(length, size, np.where(matrix, 0.0, 1.0))


def orthogonalize(
  x: Float[Array, "..."], epsilon: float, role: str
) -> Float[Array, "..."]:
  """Returns the orthogonalised tensor, scaled by its shape.

  Args:
    x: a matrix, a stack of them, or a kernel; see the module's docstring.
    epsilon: added to its Frobenius norm, which it is divided by first.
    role: of the tensor.
  """
  stack, rows, columns = _sizes(TensorInfo(x.shape, role))

  def orthogonal(x):
    scale = max(1.0, columns / rows) ** 0.5
    if role == roles.OUTPUT_FIRST:  # Its transpose's is the same.
      matrices = x.reshape(stack, columns, rows)
    else:
      matrices = x.reshape(stack, rows, columns)
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
