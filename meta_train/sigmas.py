"""Scales of perturbation by group of meta-parameters.

Written `memory:0.3,controller:0,controller/last:2`: groups are as
`meta_train.groups` names them, the numbers multiply `--sigma`, the narrowest
group counts, and what is in none has 1. With one
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

from meta_train import groups
from meta_train.errors import UserError


def parse(
  text: str, sigma: float, theta: Mapping[str, Any]
) -> float | Float[Array, "theta"]:
  """Returns the standard deviations of perturbations.

  Args:
    text: scales by group; empty: none.
    sigma: what they multiply.
    theta: meta-parameters; see `meta_train.groups` for their groups.

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
    groups.check("sigma_scale", text, name, theta)
    if name in scales:
      raise UserError(f"--sigma_scale={text} names {name} twice; leave one out")
    scales[name] = _scale(text, scale)
  leaves, structure = jax.tree.flatten(theta)
  spread = [
    np.full(np.shape(leaf), sigma * _scale_of(path, scales), np.float32)
    for path, leaf in zip(groups.paths(theta), leaves, strict=True)
  ]
  if not any(map(np.any, spread)):
    raise UserError(
      f"--sigma_scale={text} perturbs nothing; give some group a scale above 0"
    )
  return ravel_pytree(jax.tree.unflatten(structure, spread))[0]


def _scale_of(path: str, scales: Mapping[str, float]) -> float:
  """Returns the scale of the narrowest group that an array is in."""
  mine = [name for name in scales if groups.contains(name, path)]
  return scales[max(mine, key=len)] if mine else 1.0


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
