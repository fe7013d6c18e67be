"""The optimizer under the name that stands where `optax.adam` stood."""

import functools
import os
import pathlib
import reprlib
import warnings

import jax
import optax

from flt_lopt import transform
from flt_lopt import weights as weights_lib
from flt_lopt.config import OptimizerConfig
from flt_lopt.learned_optimizer import LearnedOptimizer

#: The weights that `flt` uses unless told otherwise.
DEFAULT_WEIGHTS = "flt-starter"
#: Learning rates below are more likely a mistake than meant.
MIN_USUAL = 0.01
#: Where schedules are looked at if the number of steps is not known.
PROBED_STEPS = 10_000


@functools.lru_cache(maxsize=8)
def _load(path_or_name, version):
  del version  # Only makes another file, or one written anew, a new entry.
  config, theta = weights_lib.load(path_or_name)
  for leaf in jax.tree.leaves(theta):
    leaf.setflags(write=False)  # All callers share it.
  return config, theta


def _get(weights):
  if isinstance(weights, tuple) and len(weights) == 2:
    if isinstance(weights[0], OptimizerConfig):
      return weights
  elif isinstance(weights, str | os.PathLike):
    path, version = os.path.expanduser(weights), None
    if os.path.exists(path):
      version = os.path.abspath(path), os.stat(path).st_mtime_ns
    # Text may be a name; anything else is a path.
    named = weights if isinstance(weights, str) else pathlib.Path(weights)
    return _load(named, version)
  raise ValueError(
    f"weights={reprlib.repr(weights)} must be the name of shipped weights "
    f"({', '.join(weights_lib.list_pretrained())}), a path, or a pair "
    "(config, theta) of an OptimizerConfig and its meta-parameters."
  )


def _warn_of_rate(learning_rate, num_steps):
  """Warns of a rate, or a schedule, that was meant for Adam."""
  rate = _largest(learning_rate, num_steps)
  if rate is not None and 0 < rate < MIN_USUAL:
    warnings.warn(
      f"learning_rate={rate:g} multiplies a learned step size, of which "
      "1.0 leaves all; one that suits Adam makes steps far too short. Leave it "
      "out.",
      stacklevel=3,
    )


def _largest(learning_rate, num_steps) -> float | None:
  """Returns a rate, or a schedule's largest of some steps, if it is known.

  What is traced, and schedules of what is, are not.
  """
  if callable(learning_rate):
    last = num_steps if isinstance(num_steps, int) else PROBED_STEPS
    counts = {last * part // 20 for part in range(21)}
    try:
      rates = [_largest(learning_rate(count), None) for count in counts]
    except Exception:  # It fails where it is used, if it does there too.
      return None
    known = [rate for rate in rates if rate is not None]
    return max(known) if len(known) == len(rates) else None
  if isinstance(learning_rate, jax.core.Tracer):
    return None
  try:
    return float(learning_rate)
  except (TypeError, ValueError):
    return None


def flt(
  num_steps=None,
  *,
  weights=DEFAULT_WEIGHTS,
  learning_rate=1.0,
  weight_decay=0.0,
  mask=None,
  roles=None,
) -> optax.GradientTransformationExtraArgs:
  """The FLT learned optimizer.

  With y the readings of a damped Fourier memory of the gradients (the first
  of them is momentum) over the root second moment, a a learned combination of
  them, and f a small network on normalised features, or none, a tensor
  p moves by

    d = a . y + f(y, gradient, p, clock)
    u = -eta s(t) [ exp(c) rms(p)**gamma rms(d)**rho d / rms(d) + w p ],

  where the step size eta and the exponents, of matrices and of all others, and
  per tensor the log step size c and the weight decay w are learned, and s is a
  warm-up and cosine decay over `num_steps`. The step size also follows the
  number of matrices and of steps, each to a learned power, and entries of d
  against those of the gradient are shortened by a learned factor. Before
  meta-training a . y is the first reading, f = c = w = gamma = 0 and rho = 1,
  and the latter two do nothing, which is AdamW. In other geometries steps of
  matrices have other sizes, which follow from the number of inputs; see
  `flt_lopt.geometry`. Which axis is the input, and what is a table such as an
  embedding, is told by the names of parameters in the manner of Flax, Haiku and
  Equinox; see `flt_lopt.roles`. An rms(p) below 1e-3 and an rms(d) below 0.01
  count as these; where gradients have become zero, steps of a size that doesn't
  follow d end.

  A tensor whose direction d is not finite, or points away from its momentum,
  moves along Adam's direction instead. One whose gradient is not finite, or
  of a mean size of 1e34 or more (or of an infinite sum), does not move, and its
  memory keeps its values. See `flt_lopt.kernel` and `flt_lopt.direction` for
  the details.

  Example:
    >>> tx = flt_lopt.flt(num_steps=10_000)
    >>> state = tx.init(params)
    >>> updates, state = tx.update(grads, state, params)
    >>> params = optax.apply_updates(params, updates)

  Args:
    num_steps: length of the run in steps, possibly a traced value. `None`
      where it is not known: then nothing ends, and the step size stays. It
      counts calls of `update`: within `optax.MultiSteps` those that reach it.
    weights: name of shipped weights (`flt_lopt.list_pretrained`), path of a
      weights file, or a pair (config, theta).
    learning_rate: multiplier of every update, a number or an optax schedule;
      1 leaves the learned step size, and its warm-up and decay, as they are.
      It is no rate of Adam's: 3e-4 would make steps 3,000 times too short,
      and numbers, or schedules that stay, below 0.01 are warned of.
    weight_decay: strength of decoupled weight decay as in `optax.adamw`, a
      number or an optax schedule, in units of the learned step size and
      schedule, on top of the learned one.
    mask: pytree of booleans, or a function of the parameters to one, that
      says which tensors decay by `weight_decay`; `None` is all.
    roles: what tensors are, where their names don't tell: a pytree of the names
      in `flt_lopt.roles.ROLES`, or a function of the parameters to one, such as
      `lambda params: roles.named(params, {"codebook": roles.ENTRIES})`. A leaf
      may stand for a whole part of the parameters; `None` is by name. (In
      `optax.inject_hyperparams` it is one of `static_args`, like `mask`.)

  Returns:
    A gradient transformation whose updates are to be added. Its `update`
    takes the training loss of the step as `value=`, a scalar, where there is
    one: the controller sees whether it falls, and not its scale. Other extra
    arguments are ignored.

  Raises:
    WeightsError: there are no such weights, or they can't be used.
    ValueError: `weights` is none of these things, or `num_steps` is no whole
      number of steps, at least 1; or, at `init` or `update`, parameters are
      not real floating-point numbers or are not given, a gradient is missing,
      the state is of other parameters, a role is unknown, or `value` is no
      scalar.

  References:
    Choromanski et al., "Learning a Fourier Transform for Linear Relative
    Positional Encodings in Transformers" (2023); Jain et al., "Mnemosyne:
    Learning to Train Transformers with Transformers" (2023); Loshchilov &
    Hutter, "Decoupled Weight Decay Regularization" (2019).
  """
  _warn_of_rate(learning_rate, num_steps)
  config, theta = _get(weights)
  return LearnedOptimizer(config).transform(
    theta,
    num_steps=num_steps,
    learning_rate=learning_rate,
    weight_decay=weight_decay,
    mask=mask,
    roles=roles,
  )


def scale_by_flt(
  num_steps=None,
  *,
  weights=DEFAULT_WEIGHTS,
  weight_decay=0.0,
  mask=None,
  roles=None,
) -> optax.GradientTransformationExtraArgs:
  """`flt` without the final sign and learning rate, for use in a chain.

  Updates are -u of `flt`: they point along the gradient, at the learned
  length,

    eta s(t) [ exp(c) rms(p)**gamma rms(d)**rho d / rms(d) + w p ],

  so the neutral learning rate after it is 1.

  Example:
    >>> tx = optax.chain(
    ...   optax.clip_by_global_norm(1.0),
    ...   flt_lopt.scale_by_flt(num_steps=10_000),
    ...   optax.scale_by_learning_rate(1.0),
    ... )

  Args:
    num_steps: as for `flt`.
    weights: as for `flt`.
    weight_decay: as for `flt`.
    mask: as for `flt`.
    roles: as for `flt`.

  Returns:
    A gradient transformation, whose `update` takes `value=` as that of `flt`.

  Raises:
    WeightsError: as for `flt`.
    ValueError: as for `flt`.
  """
  config, theta = _get(weights)
  return transform.scale_by_learned(
    config,
    theta,
    num_steps=num_steps,
    weight_decay=weight_decay,
    mask=mask,
    roles=roles,
  )
