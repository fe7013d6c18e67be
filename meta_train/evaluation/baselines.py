"""Hand-designed optimizers that a learned one is measured against.

Idea: a baseline is a name, a factory of an optax transformation and a stated
grid of learning rates. The learning rate may be a traced array, so that all
runs of a grid are one vmapped program; what is tuned, and over what, is part
of the record and never an afterthought.

Adam, the yardstick, is tuned over 14 learning rates on the very seeds that it
is compared on, which favours it. The others have 7 rates, or 9 where 7 were too
few; they are tuned on one seed of their own, and the best rate is run on the
seeds of the comparison. Unless their authors want it otherwise, they warm up
over 5 % of the steps and decay by a cosine to 1 %.

Source: the protocol of tuning Adam over a logarithmic grid follows L. Metz et
al., "VeLO: Training Versatile Learned Optimizers by Scaling Up", 2022.

Names: `Baseline`, `get_baseline`, `list_baselines`, `half_decades`,
`one_two_five`.
"""

import dataclasses
import difflib
from collections.abc import Callable

import optax
from jaxtyping import Array, Float
from optax import contrib

from meta_train.evaluation.curves import EvalParams

Factory = Callable[
  [Float[Array, ""], int], optax.GradientTransformationExtraArgs
]

WARMUP_FRACTION = 0.05
FINAL_FRACTION = 0.01
WEIGHT_DECAY = 0.01


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


def one_two_five(lowest: int, num_rates: int) -> tuple[float, ...]:
  """Returns the learning rates 2, 5, 10, 20, 50, ... times 10**lowest.

  Args:
    lowest: exponent of ten below the smallest rate.
    num_rates: how many rates, three to a decade.

  Returns:
    The rates in ascending order: `one_two_five(-5, 3) == (2e-5, 5e-5, 1e-4)`.
  """
  return tuple(
    float(f"{(1, 2, 5)[i % 3]}e{lowest + i // 3}")
    for i in range(1, num_rates + 1)
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
    tuned_apart: whether the rate is chosen on one seed of its own, and only
      the best is run on the others; otherwise all are run on all.
    eval_params: see `meta_train.evaluation.curves.training_curves`.
  """

  name: str
  description: str
  factory: Factory
  rates: tuple[float, ...]
  tuned_apart: bool = False
  eval_params: EvalParams | None = None

  def __post_init__(self):
    if not self.rates or list(self.rates) != sorted(set(self.rates)):
      raise ValueError(
        f"rates={self.rates} of baseline {self.name!r} must be "
        "ascending, distinct and not empty."
      )


def _cosine(learning_rate, num_steps) -> optax.Schedule:
  """Returns 5 % linear warm-up, then cosine decay to 1 % of the peak."""
  schedule = optax.warmup_cosine_decay_schedule(
    init_value=0.0,
    peak_value=1.0,
    warmup_steps=max(1, round(WARMUP_FRACTION * num_steps)),
    decay_steps=num_steps,
    end_value=FINAL_FRACTION,
  )
  # Optax wants its peak as a number; the traced rate multiplies from
  # outside.
  return lambda count: learning_rate * schedule(count)


def _with_cosine(make: Callable[..., optax.GradientTransformation], **options):
  """Returns the factory of an optimizer with warm-up and cosine."""
  return lambda learning_rate, num_steps: make(
    _cosine(learning_rate, num_steps), **options
  )


def _prodigy(learning_rate, num_steps):
  decay = optax.cosine_decay_schedule(1.0, num_steps, FINAL_FRACTION)
  return contrib.prodigy(
    lambda count: learning_rate * decay(count), weight_decay=WEIGHT_DECAY
  )


def _schedule_free(learning_rate, num_steps):
  return contrib.schedule_free_adamw(
    learning_rate,
    warmup_steps=max(1, round(WARMUP_FRACTION * num_steps)),
    weight_decay=WEIGHT_DECAY,
  )


def _apart(
  name, description, factory, lowest, num_rates=7, **options
) -> Baseline:
  rates = half_decades(lowest, num_rates)
  return Baseline(
    name, description, factory, rates, tuned_apart=True, **options
  )


_ADAM_RATES = one_two_five(-5, 14)
_ALL = (
  Baseline(
    "adam",
    "optax.adam, constant learning rate",
    lambda learning_rate, num_steps: optax.adam(learning_rate),
    _ADAM_RATES,
  ),
  Baseline(
    "adam_cosine",
    "optax.adam, 5 % linear warm-up, then cosine to 1 % of its peak",
    _with_cosine(optax.adam),
    _ADAM_RATES,
  ),
  _apart(
    "adamw",
    "optax.adamw, weight decay 0.01, warm-up and cosine",
    _with_cosine(optax.adamw, weight_decay=WEIGHT_DECAY),
    -4,
    9,
  ),
  _apart(
    "nadamw",
    "optax.nadamw, weight decay 0.01, warm-up and cosine",
    _with_cosine(optax.nadamw, weight_decay=WEIGHT_DECAY),
    -4,
    9,
  ),
  _apart(
    "lion",
    "optax.lion, weight decay 0.1, warm-up and cosine",
    _with_cosine(optax.lion, weight_decay=10 * WEIGHT_DECAY),
    -5,
    9,
  ),
  _apart(
    "schedule_free",
    "optax.contrib.schedule_free_adamw, weight decay 0.01, 5 % warm-up",
    _schedule_free,
    -4,
    9,
    eval_params=contrib.schedule_free_eval_params,
  ),
  _apart(
    "prodigy",
    "optax.contrib.prodigy, weight decay 0.01, cosine; rates multiply its own",
    _prodigy,
    -2,
  ),
  _apart(
    "muon",
    "optax.contrib.muon for matrices at the update size of AdamW, AdamW for "
    "the rest, weight decay 0.01, warm-up and cosine",
    _with_cosine(
      contrib.muon,
      consistent_rms=0.2,
      weight_decay=WEIGHT_DECAY,
      adam_weight_decay=WEIGHT_DECAY,
    ),
    -4,
    9,
  ),
  _apart(
    "sgd",
    "optax.sgd, momentum 0.9, warm-up and cosine",
    _with_cosine(optax.sgd, momentum=0.9),
    -3,
  ),
  _apart(
    "adafactor",
    "optax.adafactor, relative steps, warm-up and cosine",
    _with_cosine(optax.adafactor),
    -3,
  ),
)
_BASELINES = {baseline.name: baseline for baseline in _ALL}


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
