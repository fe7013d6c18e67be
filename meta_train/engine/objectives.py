"""Meta-objectives by name: what of an inner run counts, and how much.

The meta-loss of an episode of T inner steps is

    L = 1/T sum_t w_t f(l_t),    with sum_t w_t = T,

for l_t the task's normalised training loss before step t = 0 .. T - 1. Each
unroll reports its own part, the mean of w_t f(l_t) over its steps, so that
the mean over the unrolls of an episode is L whatever the truncation: online
estimators stay what they are, and steps in later unrolls are credited to the
perturbations of earlier ones as always.

| name | f | w_t |
|---|---|---|
| `mean` | l | 1 |
| `log` | log(l + c) | 1 |
| `last`, `log_last` | l, log(l + c) | T at the last step, else 0 |
| `tail`, `log_tail` | l, log(l + c) | 10 in the last tenth, else 0 |
| `log_time`, `log_log_time` | l, log(l + c) | T log((t+2)/(t+1)) / log(T+1) |
| `validation`, `log_validation` | l, log(l + c) | see below |

`log_time` gives each octave of time the same weight. With `last`, all but
one of an episode's unrolls report zero, and their estimates are zero too:
the gradient is that of the final loss, with the variance that comes with
learning from one step in many; `tail` takes some of it away. An episode that
was cut short, as the first ones are, ends where it was cut. With truncated
backpropagation the other objectives reward what helps within an unroll, such
as small steps where the gradient is noisy; under these two, an unroll that
doesn't reach the end teaches nothing rather than that.

`validation` counts, after each unroll, the loss on one batch of the task's
validation split; its mean over the unrolls is L. Tasks without held-out data
draw a fresh training batch for it. It costs one more forward pass per
unroll, and the model state that the pass leaves is dropped.

The floor c is 0.1 if nothing is said: what is gained below it counts little.
Runs that end at 1e-3 and 1e-5 differ by 1 % of a halving at c = 0.1, and by
one halving at c = 1e-3.

Main names: `Objective`, `OBJECTIVES`, `LOG_FLOOR`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

#: What is added to losses before the logarithm; zero has none.
LOG_FLOOR = 0.1

Losses = Float[Array, "steps"]
#: (steps finished in the episode, its length) -> weights, 1 on average.
Weight = Callable[[Int[Array, "steps"], Int[Array, ""]], Losses]


class Objective(NamedTuple):
  """What is averaged over an episode.

  Attributes:
    logged: whether f is the logarithm.
    weight: w, or `None` where all steps weigh the same.
    held_out: whether the loss is that on held-out data after each unroll,
      rather than the training losses of its steps.
  """

  logged: bool = False
  weight: Weight | None = None
  held_out: bool = False

  def value(
    self, losses: Float[Array, "..."], floor: float = LOG_FLOOR
  ) -> Float[Array, "..."]:
    """Returns f of normalised losses.

    Args:
      losses: the normalised losses.
      floor: c.
    """
    if not self.logged:
      return losses
    return jnp.log(jnp.maximum(losses, 0.0) + floor)


def _at_the_end(steps, length):
  return jnp.where(steps == length - 1, length, 0).astype(jnp.float32)


def _in_the_last_tenth(steps, length):
  counted = jnp.maximum(length // 10, 1)
  inside = steps >= length - counted
  return jnp.where(inside, length / counted, 0.0).astype(jnp.float32)


def _by_log_time(steps, length):
  steps = steps.astype(jnp.float32)
  octaves = jnp.log1p(length.astype(jnp.float32))
  return length * jnp.log1p(1.0 / (steps + 1.0)) / octaves


OBJECTIVES = {
  "mean": Objective(),
  "log": Objective(logged=True),
  "last": Objective(weight=_at_the_end),
  "log_last": Objective(logged=True, weight=_at_the_end),
  "tail": Objective(weight=_in_the_last_tenth),
  "log_tail": Objective(logged=True, weight=_in_the_last_tenth),
  "log_time": Objective(weight=_by_log_time),
  "log_log_time": Objective(logged=True, weight=_by_log_time),
  "validation": Objective(held_out=True),
  "log_validation": Objective(logged=True, held_out=True),
}
