"""Expert supervision: learn from a hand-designed optimizer, for a while.

An expert watches the run: from the very gradients that the learned optimizer
gets it computes the update that it would make. With u_k the learned update of
tensor k and e_k the expert's,

    D = mean over k of 1 - cos(u_k, e_k),
    M = mean over k of |log(|u_k| / |e_k|)|,

and the meta-loss of an episode of T steps becomes

    L + d(n) mean over t of D_t + m(n) mean over t of M_t,

with weights that go linearly from a first to a last value over the first
outer steps n. An episode keeps the weights that it began with, so that its
meta-loss is one function from its first unroll to its last. What is reported
as the meta-loss is L alone.

The expert's state is part of the run, and costs its memory and time; without
an expert there is neither. The expert doesn't choose where the run goes: it
is asked wherever the learned optimizer is. A diverged run counts the largest
D and M that there are.

The weights that are the defaults are those of ELO (2026), a recipe for
meta-training learned optimizers. Reference: Ross, Gordon, Bagnell, "A
Reduction of Imitation Learning and Structured Prediction to No-Regret Online
Learning" (2011), for asking the expert on the learner's own path.

Main names: `Supervision`, `EXPERTS`, `parse_fade`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from flt_lopt.layout import FlatLayout
from meta_train.errors import UserError, check_choice

#: Bound of |log(|u| / |e|)|: beyond it no size is worse than another.
MAX_LOG_RATIO = 10.0
#: What a diverged run counts as D and M.
WORST = (2.0, MAX_LOG_RATIO)
#: Square norms below it are zero: float32 would lose their ratio.
TINY = 1e-20


class Expert(NamedTuple):
  """A hand-designed optimizer and its usual learning rate."""

  make: Callable[[float], optax.GradientTransformation]
  learning_rate: float


EXPERTS = {
  "adamw": Expert(optax.adamw, 1e-3),
  # Of matrices; all other tensors are AdamW's, at the rate usual for it.
  "muon": Expert(
    lambda rate: optax.contrib.muon(rate, adam_learning_rate=rate / 20), 0.02
  ),
}


@dataclasses.dataclass(frozen=True)
class Supervision:
  """What an expert adds to the meta-loss.

  Attributes:
    expert: name in `EXPERTS`.
    learning_rate: the expert's; 0: its usual one.
    direction: first and last weight of D.
    magnitude: first and last weight of M.
    fade: outer steps over which weights go from the first to the last; 0:
      they are the last from the start.
  """

  expert: str
  learning_rate: float = 0.0
  direction: tuple[float, float] = (0.7, 0.3)
  magnitude: tuple[float, float] = (0.3, 0.0)
  fade: int = 1000

  def __post_init__(self) -> None:
    check_choice("expert", self.expert, EXPERTS)

  @property
  def _optimizer(self) -> optax.GradientTransformation:
    expert = EXPERTS[self.expert]
    return expert.make(self.learning_rate or expert.learning_rate)

  def weights(self, outer_step: Int[Array, ""] | int) -> Float[Array, "2"]:
    """Returns the weights of D and M in an episode that begins."""
    first = jnp.array([self.direction[0], self.magnitude[0]])
    last = jnp.array([self.direction[1], self.magnitude[1]])
    if not self.fade:
      return last
    share = jnp.minimum(jnp.asarray(outer_step, jnp.float32) / self.fade, 1.0)
    return first + (last - first) * share

  def init(self, params: Any) -> Any:
    """Returns the expert's state before the first step."""
    return self._optimizer.init(params)

  def update(self, gradient: Any, state: Any, params: Any) -> tuple[Any, Any]:
    """Returns the expert's update and its next state."""
    return self._optimizer.update(gradient, state, params)

  def compare(
    self,
    layout: FlatLayout,
    ours: Float[Array, "blocks lanes"],
    theirs: Float[Array, "blocks lanes"],
  ) -> Float[Array, "2"]:
    """Returns D and M of one step.

    Args:
      layout: how tensors lie in the flat arrays.
      ours: the learned optimizer's update.
      theirs: the expert's.
    """
    sums = (ours * theirs, ours * ours, theirs * theirs)
    both, own, expert = layout.collect(sums)
    own, expert = own + TINY, expert + TINY
    cosine = both * jax.lax.rsqrt(own) * jax.lax.rsqrt(expert)
    ratio = jnp.abs(jnp.log(own) - jnp.log(expert)) / 2
    found = jnp.stack(
      [jnp.mean(1 - cosine), jnp.mean(jnp.minimum(ratio, MAX_LOG_RATIO))]
    )
    return jnp.where(jnp.isfinite(found), found, jnp.array(WORST))


def parse_fade(name: str, text: str) -> tuple[float, float]:
  """Reads a weight that fades, such as `0.7:0.3`.

  Args:
    name: of the flag, for errors.
    text: first and last weight, or one for both.

  Raises:
    UserError: they are not one or two numbers from 0 up.
  """
  try:
    values = [float(word) for word in text.split(":")]
  except ValueError:
    values = []
  if len(values) not in (1, 2) or not all(0 <= v < jnp.inf for v in values):
    raise UserError(
      f"--{name}={text} must be a first and a last weight from 0 up, as in "
      "0.7:0.3, or one number for both"
    )
  return values[0], values[-1]
