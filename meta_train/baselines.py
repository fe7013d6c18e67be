"""Hand-designed optimizers that a learned one is measured against.

Idea: a baseline is a name, a factory of an optax transformation and a stated
grid of learning rates. The learning rate may be a traced array, so that all
runs of a grid are one vmapped program; what is tuned, and over what, is part
of the record and never an afterthought.

Source: the protocol of tuning Adam over a logarithmic grid follows L. Metz et
al., "VeLO: Training Versatile Learned Optimizers by Scaling Up", 2022.

Names: `Baseline`, `get_baseline`, `list_baselines`, `half_decades`.
"""

import dataclasses
import difflib
from collections.abc import Callable

import optax
from jaxtyping import Array, Float

Factory = Callable[
  [Float[Array, ""], int], optax.GradientTransformationExtraArgs
]

WARMUP_FRACTION = 0.05
FINAL_FRACTION = 0.01


def half_decades(lowest: int, num_rates: int) -> tuple[float, ...]:
  """Returns the learning rates 1, 3, 10, 30, ... times 10**lowest.

  Args:
    lowest: exponent of ten of the smallest rate.
    num_rates: how many rates, two to a decade.

  Returns:
    The rates in ascending order, each the float that is written so:
    `half_decades(-4, 3) == (1e-4, 3e-4, 1e-3)`.
  """
  return tuple(
    float(f"{(1, 3)[i % 2]}e{lowest + i // 2}") for i in range(num_rates)
  )


@dataclasses.dataclass(frozen=True)
class Baseline:
  """A hand-designed optimizer and the grid it is tuned over.

  Attributes:
    name: what the registry, the rows and the report call it.
    description: what it is, in a few words for a reader of the report.
    factory: maps a learning rate (a scalar, traced or not) and the number
      of inner steps to an optax transformation.
    rates: learning rates of the grid, ascending.
  """

  name: str
  description: str
  factory: Factory
  rates: tuple[float, ...]

  def __post_init__(self):
    if not self.rates or list(self.rates) != sorted(set(self.rates)):
      raise ValueError(
        f"rates={self.rates} of baseline {self.name!r} must be "
        "ascending, distinct and not empty."
      )


def _adam(learning_rate, num_steps):
  del num_steps
  return optax.adam(learning_rate)


def _adam_cosine(learning_rate, num_steps):
  schedule = optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=1.0,
    warmup_steps=max(1, round(WARMUP_FRACTION * num_steps)),
    decay_steps=num_steps,
    end_value=FINAL_FRACTION,
  )
  # Optax wants its peak as a number; the traced rate multiplies from
  # outside.
  return optax.adam(lambda count: learning_rate * schedule(count))


_BASELINES = {
  baseline.name: baseline
  for baseline in (
    Baseline(
      "adam",
      "optax.adam, constant learning rate",
      _adam,
      half_decades(-4, 7),
    ),
    Baseline(
      "adam_cosine",
      "optax.adam, 5 % linear warm-up, then cosine to 1 % of its peak",
      _adam_cosine,
      half_decades(-4, 7),
    ),
  )
}


def list_baselines() -> tuple[str, ...]:
  """Returns the names of all baselines."""
  return tuple(_BASELINES)


def get_baseline(
  name: str, *, rates: tuple[float, ...] | None = None
) -> Baseline:
  """Looks up a baseline by name.

  Args:
    name: one of `list_baselines()`.
    rates: another grid of learning rates; `None` keeps the stated one.

  Returns:
    The baseline.

  Raises:
    ValueError: no baseline has this name, or the grid is not ascending.
  """
  if name not in _BASELINES:
    close = difflib.get_close_matches(name, _BASELINES, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise ValueError(
      f"baseline={name!r} is unknown; the baselines are "
      f"{', '.join(_BASELINES)}.{hint}"
    )
  baseline = _BASELINES[name]
  if rates is None:
    return baseline
  return dataclasses.replace(baseline, rates=tuple(rates))
