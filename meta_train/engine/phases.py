"""Phases of meta-training: which parts of theta learn, and for how long.

Written `memory+direction+step:3000,controller`: for 3000 outer steps the
memory, the direction network and the step size learn, then the controller, to
the end. What does not learn is frozen: neither perturbed nor updated. At the
end of a phase theta becomes its running average, which is what the phase has
achieved; estimators and the outer optimizer start anew, since what they
remember belongs to other parameters. Nothing is compiled anew.

Main names: `Phase`, `parse`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from meta_train.engine import groups
from meta_train.errors import UserError


class Phase(NamedTuple):
  """A stretch of outer steps.

  Attributes:
    start: its first outer step.
    free: 1 for the meta-parameters that learn, 0 for the frozen ones.
  """

  start: int
  free: Float[Array, "theta"]


def parse(text: str, theta: Mapping[str, Any]) -> tuple[Phase, ...]:
  """Reads the phases of a run.

  Args:
    text: phases separated by commas; each is groups joined by "+", and all
      but the last say after a colon how many outer steps they take; empty:
      one phase of all groups.
    theta: meta-parameters; see `meta_train.engine.groups` for their groups.

  Raises:
    UserError: a group is unknown, or the lengths are not as stated.
  """
  phases, start = [], 0
  parts = (text or "+".join(theta)).split(",")
  for number, part in enumerate(parts):
    names, _, length = part.partition(":")
    chosen = [name.strip() for name in names.split("+")]
    for name in chosen:
      groups.check("phases", text, name, theta)
    phases.append(Phase(start, _free(theta, chosen)))
    last = number == len(parts) - 1
    if last and not length:
      break
    if last or not length.strip().isdecimal() or not int(length):
      raise UserError(
        f"--phases={text} must say for every phase but the last how many outer "
        "steps it takes, as in memory+direction+step:3000,controller"
      )
    start += int(length)
  return tuple(phases)


def at(phases: tuple[Phase, ...], outer_step: int) -> int:
  """Returns the number of the phase that takes an outer step."""
  return max(n for n, phase in enumerate(phases) if phase.start <= outer_step)


def _free(theta: Mapping[str, Any], chosen: list[str]):
  leaves, structure = jax.tree.flatten(theta)
  masks = [
    np.full(
      np.shape(leaf),
      any(groups.contains(name, path) for name in chosen),
      np.float32,
    )
    for path, leaf in zip(groups.paths(theta), leaves, strict=True)
  ]
  return ravel_pytree(jax.tree.unflatten(structure, masks))[0]
