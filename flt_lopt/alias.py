"""The optimizer under the name that stands where `optax.adam` stood."""

import functools
import os

import optax

from flt_lopt import transform
from flt_lopt import weights as weights_lib
from flt_lopt.learned_optimizer import LearnedOptimizer

#: The weights that `flt` uses unless told otherwise.
DEFAULT_WEIGHTS = "flt-quick"


@functools.lru_cache(maxsize=8)
def _load(path: str, changed):
  del changed  # Only makes a file that was written anew a new entry.
  return weights_lib.load(path)


def _get(weights):
  if isinstance(weights, tuple) and len(weights) == 2:
    return weights
  if not isinstance(weights, str | os.PathLike):
    raise ValueError(
      f"weights={weights!r} must be the name of shipped weights "
      f"({', '.join(weights_lib.list_pretrained())}), a path, or a pair "
      "(config, theta)."
    )
  path = os.fspath(weights)
  changed = os.stat(path).st_mtime_ns if os.path.exists(path) else None
  return _load(path, changed)


def flt(
  num_steps=None,
  *,
  weights=DEFAULT_WEIGHTS,
  learning_rate=1.0,
  weight_decay=0.0,
  mask=None,
) -> optax.GradientTransformationExtraArgs:
  """The FLT learned optimizer.

  With n the nominal direction read from a damped Fourier memory of the
  gradients, and f a small network on normalised features, a tensor p moves by

    d = n + f(memory, gradient, p, clock)
    u = -eta s(t) [ exp(c) rms(p)**gamma rms(d)**rho d / rms(d) + w p ],

  where the step size eta, the exponents, and per tensor the log step size c
  and the weight decay w are learned, and s is a warm-up and cosine decay over
  `num_steps` (see `flt_lopt.kernel`).

  Example:
    >>> tx = flt_lopt.flt(num_steps=10_000)
    >>> state = tx.init(params)
    >>> updates, state = tx.update(grads, state, params)
    >>> params = optax.apply_updates(params, updates)

  Args:
    num_steps: length of the run in steps, possibly a traced value. `None`
      where it is not known: then nothing ends, and the step size stays.
    weights: name of shipped weights (`flt_lopt.list_pretrained`), path of a
      weights file, or a pair (config, theta).
    learning_rate: multiplier of every update, a number or an optax schedule;
      1 leaves the learned step size as it is.
    weight_decay: strength of decoupled weight decay as in `optax.adamw`, in
      units of the learned step size and schedule, on top of the learned one.
    mask: pytree of booleans, or a function of the parameters to one, that
      says which tensors decay by `weight_decay`; `None` is all.

  Returns:
    A gradient transformation whose updates are to be added.

  Raises:
    WeightsError: there are no such weights, or they can't be used.
    ValueError: at `init` or `update`, for parameters that are not real
      floating-point numbers, or are not given.
  """
  config, theta = _get(weights)
  return LearnedOptimizer(config).transform(
    theta,
    num_steps=num_steps,
    learning_rate=learning_rate,
    weight_decay=weight_decay,
    mask=mask,
  )


def scale_by_flt(
  num_steps=None, *, weights=DEFAULT_WEIGHTS, weight_decay=0.0, mask=None
) -> optax.GradientTransformationExtraArgs:
  """`flt` without the final sign and learning rate, for use in a chain.

  Updates point along the gradient, at the learned length, so the neutral
  learning rate after it is 1.

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

  Returns:
    A gradient transformation.

  Raises:
    WeightsError: as for `flt`.
    ValueError: as for `flt`.
  """
  config, theta = _get(weights)
  return transform.scale_by_learned(
    config, theta, num_steps=num_steps, weight_decay=weight_decay, mask=mask
  )
