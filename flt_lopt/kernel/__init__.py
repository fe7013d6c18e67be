"""One step of the optimizer, the same for both layouts.

    gradient -> scale -> controller -> memory -> direction -> geometry -> step

The work is split by what it costs: `per_tensor`, which is cheap, and
`per_parameter`, which is all the cost.

With n the nominal direction (Adam's), d the direction that is learned (see
`flt_lopt.direction`; entries whose sign is not the gradient's are multiplied
by 1 - k, with a learned caution k, 0 at initialisation and at most 0.99), p the
parameters and rms the root mean square over the tensor (of p never less than
1e-3, of d never less than 0.01), the update is

    u = -eta s(t) [ exp(c) l (rms(p)/q)**gamma rms(d)**rho d / rms(d) + w p ],

where l and q, 1 for the element-wise geometry, are those of
`flt_lopt.geometry.nominal` (exp of its logarithms), eta is the step size, s the
nominal schedule, c and w the controller's log step and weight decay. For a
model of L matrices, 1 to 8, and a run of T steps, 100 to 20,000,

    eta = eta_0 (L / 3)**-delta (T / 1000)**-tau

with all three learned, for matrices and for all others; where T is not known,
it counts as 1000. The layers of a deep model move its output together, so that
each has to move it by less; in a long run the noise of more steps adds up. So
delta is within +-1, and tau within +-1/2. At initialisation gamma = delta = tau
= k = 0, rho = 1, c = w = 0 and d = n: AdamW. With rho = 0 the step has unit
size per tensor while rms(d) is above 0.01, and fades below; normalised steps of
matrices begin with that.

Gradients are divided by a power of two per tensor, see `flt_lopt.scale`. With
`gradient_limit` k, a tensor's gradients are before all else multiplied by

    min(1, k r / a),

with r its root mean second moment after the step before and a its mean absolute
gradient, so that a batch unlike all others can't fill the memory; there is no
limit while r is zero, so none at the first step.

Safeguard: where d is not finite, or points away from the nominal reading
(their inner product, before division by the second moment, isn't positive), the
tensor moves along Adam's direction,

    u = -eta s(t) [ exp(c) l (rms(p)/q)**gamma n + w p ],

at the learned length but for rms(d). Where d is trusted, but the mean absolute
gradient is less than 1e-4 of what d stems from, rms(d) times the unit of the
tensor's memory (the larger of its root mean second moment after the step before
and the mean absolute gradient), as where gradients have become zero, the memory
is out of date: with rho below 1 a step is shortened by how much less, to the
power of 1 - rho. Where a tensor's gradient is not finite,
or its mean absolute value is 1e34 or more, or the sum that this is made from
infinite, the tensor is skipped: its update is zero, and its memory keeps its
values and its scale; the clock goes on, and so does the controller. Where the
parameters are so large that the length of the step is not finite, the update is
zero.

Reference, of caution: Liang, Chen, Liu, Liu, "Cautious optimizers: Improving
training with one line of code" (2024).

Main names: `before`, `advance`, `direct`, `after`, `apply_step`.
"""

from flt_lopt.kernel.per_parameter import (
  advance,
  advance_second,
  apply_step,
  direct,
  fallback,
  nominal_terms,
  scaled,
  total,
)
from flt_lopt.kernel.per_tensor import after, before, statistics
from flt_lopt.kernel.quantities import (
  Gains,
  Products,
  StepScalars,
  Sums,
  TensorScalars,
  TensorState,
  init_tensors,
)
from flt_lopt.kernel.theta import (
  SQUARE_POLE,
  init_theta,
  square_kernel,
  square_rate,
)

__all__ = [
  "SQUARE_POLE",
  "Gains",
  "Products",
  "StepScalars",
  "Sums",
  "TensorScalars",
  "TensorState",
  "advance",
  "advance_second",
  "after",
  "apply_step",
  "before",
  "direct",
  "fallback",
  "init_tensors",
  "init_theta",
  "nominal_terms",
  "scaled",
  "square_kernel",
  "square_rate",
  "statistics",
  "total",
]
