"""Factors by group of meta-parameters: of perturbations, and of outer rates.

Written `memory:0.3,controller:0,controller/log_step:2`: groups are as
`meta_train.engine.groups` names them, the narrowest group counts, and what is
in none has 1.

`--sigma_scale` multiplies `--sigma`. With one standard deviation for each
meta-parameter, s_i, pairs are theta +- eps with eps_i ~ N(0, s_i**2) and

    g_i = c_i (L+ - L-) / (2 s_i**2),

unbiased for the gradient of E L(theta + eps), whatever the s_i: they choose
how far each group is smoothed, and which share of the estimate's variance it
gets. A group of scale 0 is not perturbed, and its gradient is zero.

`--rate_scale` multiplies the updates of the outer optimizer. Adam moves all
meta-parameters by like amounts, although a network's weights add up in what
they give: the more there are, the smaller their rate is to be.

Main names: `parse`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from meta_train.engine import groups
from meta_train.errors import UserError


def parse(
  flag: str, text: str, theta: Mapping[str, Any]
) -> float | Float[Array, "theta"]:
  """Returns the factors of all meta-parameters.

  Args:
    flag: whose value the text is.
    text: factors by group; empty: none.
    theta: meta-parameters; see `meta_train.engine.groups` for their groups.

  Returns:
    1.0 for an empty text, else one for each meta-parameter.

  Raises:
    UserError: a group is unknown or named twice, a factor is no number from 0
      up, or all are 0.
  """
  if not text:
    return 1.0
  scales: dict[str, float] = {}
  for part in text.split(","):
    name, _, scale = (word.strip() for word in part.partition(":"))
    groups.check(flag, text, name, theta)
    if name in scales:
      raise UserError(f"--{flag}={text} names {name} twice; leave one out")
    scales[name] = _scale(flag, text, scale)
  found = groups.spread(theta, lambda path: _scale_of(path, scales))
  if not np.any(found):
    raise UserError(
      f"--{flag}={text} leaves nothing; give some group a scale above 0"
    )
  return found


def _scale_of(path: str, scales: Mapping[str, float]) -> float:
  """Returns the scale of the narrowest group that an array is in."""
  mine = [name for name in scales if groups.contains(name, path)]
  return scales[max(mine, key=len)] if mine else 1.0


def _scale(flag: str, text: str, word: str) -> float:
  try:
    value = float(word)
  except ValueError:
    value = np.nan
  if not 0.0 <= value < np.inf:
    raise UserError(
      f"--{flag}={text}: {word!r} must be a number from 0 up, as in "
      "memory:0.3,controller:2"
    )
  return value
