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

import numpy as np
from jaxtyping import Array, Float

from meta_train.engine import groups
from meta_train.errors import UserError


class Phase(NamedTuple):
  """A stretch of outer steps.

  Attributes:
    start: its first outer step.
    free: 1 for the meta-parameters that learn, 0 for the frozen ones.
    length: its outer steps; 0: not known.
  """

  start: int
  free: Float[Array, "theta"]
  length: int = 0


def parse(
  text: str,
  theta: Mapping[str, Any],
  *,
  outer_steps: int = 0,
  learns: float | Float[Array, "theta"] = 1.0,
) -> tuple[Phase, ...]:
  """Reads the phases of a run.

  Args:
    text: phases separated by commas; each is groups joined by "+", and all
      but the last say after a colon how many outer steps they take; empty:
      one phase of all groups.
    theta: meta-parameters; see `meta_train.engine.groups` for their groups.
    outer_steps: of the whole run, where the last phase ends.
    learns: 0 for meta-parameters that other settings keep from learning.

  Raises:
    UserError: a group is unknown or cannot learn, or the lengths are not as
      stated.
  """
  if not text and not np.any(learns):
    raise UserError(
      "--sigma_scale and --rate_scale together leave nothing that learns; give "
      "some group a scale above 0 in both"
    )
  phases, start = [], 0
  parts = (text or "+".join(theta)).split(",")
  for number, part in enumerate(parts):
    names, _, length = part.partition(":")
    chosen = [name.strip() for name in names.split("+")]
    for name in chosen:
      groups.check("phases", text, name, theta)
      if text and not np.any(_free(theta, [name]) * learns):
        raise UserError(
          f"--phases={text} lets {name} learn, which --sigma_scale or "
          "--rate_scale multiplies by 0; give it a scale above 0, or leave it "
          "out"
        )
    last = number == len(parts) - 1
    if last and not length:
      rest = max(outer_steps - start, 0)
      phases.append(Phase(start, _free(theta, chosen), rest))
      break
    if last:
      raise UserError(
        f"--phases={text} gives a length to its last phase, which goes on to "
        f"the end; write {names}"
      )
    if not length.strip().isdecimal() or not int(length):
      raise UserError(
        f"--phases={text} must say for every phase but the last how many outer "
        "steps it takes, as in memory+direction+step:3000,controller"
      )
    phases.append(Phase(start, _free(theta, chosen), int(length)))
    start += int(length)
  return tuple(phases)


def at(phases: tuple[Phase, ...], outer_step: int) -> int:
  """Returns the number of the phase that takes an outer step."""
  return max(n for n, phase in enumerate(phases) if phase.start <= outer_step)


def _free(theta: Mapping[str, Any], chosen: list[str]) -> Float[Array, "theta"]:
  return groups.spread(
    theta, lambda path: any(groups.contains(name, path) for name in chosen)
  )
