"""Scales of perturbation by group of meta-parameters.

Written `memory:0.3,controller:2`: the groups are theta's top-level ones, the
numbers multiply `--sigma`, and groups that are not named have 1. With one
standard deviation for each meta-parameter, s_i, pairs are theta +- eps with
eps_i ~ N(0, s_i**2) and

    g_i = c_i (L+ - L-) / (2 s_i**2),

unbiased for the gradient of E L(theta + eps), whatever the s_i: they choose
how far each group is smoothed, and which share of the estimate's variance it
gets. A group of scale 0 is not perturbed, and its gradient is zero.

Main names: `parse`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from meta_train.errors import UserError, closest


def parse(
  text: str, sigma: float, theta: Mapping[str, Any]
) -> float | Float[Array, "theta"]:
  """Returns the standard deviations of perturbations.

  Args:
    text: scales by group; empty: none.
    sigma: what they multiply.
    theta: meta-parameters; the groups are its keys.

  Returns:
    `sigma` itself for an empty text, else one for each meta-parameter.

  Raises:
    UserError: a group is unknown or named twice, or a scale is no number
      from 0 up.
  """
  if not text:
    return sigma
  scales: dict[str, float] = {}
  for part in text.split(","):
    name, _, scale = (word.strip() for word in part.partition(":"))
    if name not in theta:
      raise UserError(
        f"--sigma_scale={text} names {name!r}, which theta does not have"
        f"{closest(name, theta)} (there are: {', '.join(sorted(theta))})"
      )
    if name in scales:
      raise UserError(f"--sigma_scale={text} names {name} twice; leave one out")
    scales[name] = _scale(text, scale)
  if not any(scales.get(name, 1.0) for name in theta):
    raise UserError(
      f"--sigma_scale={text} perturbs nothing; give some group a scale above 0"
    )
  spread = {
    name: jax.tree.map(
      lambda x, s=scales.get(name, 1.0): np.full(np.shape(x), s * sigma), part
    )
    for name, part in theta.items()
  }
  return ravel_pytree(jax.tree.map(np.float32, spread))[0]


def _scale(text: str, word: str) -> float:
  try:
    value = float(word)
  except ValueError:
    value = np.nan
  if not 0.0 <= value < np.inf:
    raise UserError(
      f"--sigma_scale={text}: {word!r} must be a number from 0 up, as in "
      "memory:0.3,controller:2"
    )
  return value
