"""What a checkpoint holds, and how it gets to and from all processes.

Process 0 alone has files. A checkpoint is the state of all tasks, wherever
they are trained, so a run can continue with other processes and devices.

Main names: `Saved`, `Best`, `start`, `whole`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Float

from meta_train.engine import between, meter
from meta_train.engine.outer_state import OuterState
from meta_train.engine.training import Parts
from meta_train.run.run_folder import RunFolder


class Best(NamedTuple):
  """What validation has found so far.

  Attributes:
    outer_step: when the score was lowest; 0: where the run began.
    score: that score; infinite: nothing was validated.
    theta: the running average of theta then.
    untrained: log of the loss of the untrained optimizer, by task.
  """

  outer_step: np.ndarray
  score: np.ndarray
  theta: Float[np.ndarray, "theta"]
  untrained: Float[np.ndarray, "tasks"]


class Saved(NamedTuple):
  """A checkpoint.

  Attributes:
    outer: state of the outer loop.
    meter: sums since the last row of metrics.jsonl.
    best: of validation.
  """

  outer: OuterState
  meter: meter.Meter
  best: Best


def start(
  parts: Parts,
  folder: RunFolder | None,
  num_validation: int,
  *,
  on_accepted: Callable[[], None] = lambda: None,
) -> tuple[Saved, Saved]:
  """Returns where the run stands.

  Args:
    parts: the parts of the run.
    folder: the run's folder; None in all processes but the first.
    num_validation: number of validation tasks.
    on_accepted: called when nothing can refuse the run any more, before what
      takes long.

  Returns:
    The state with this process's tasks, and shapes and dtypes of one with
    those of all processes.
  """
  theta, _ = ravel_pytree(parts.theta)
  group = parts.loop.group
  template = Saved(
    outer=parts.loop.template(theta),
    meter=meter.empty(len(parts.names)),
    best=Best(
      outer_step=np.zeros((), np.int64),
      score=np.array(np.inf),
      theta=np.asarray(theta),
      untrained=np.full(num_validation, np.nan),
    ),
  )
  found = folder.restore(template) if folder is not None else None
  on_accepted()
  begun = b"1" if found else b"0"
  if group.scatter([begun] * group.size) == b"0":
    (theta,) = between.broadcast(group, (theta,), (theta,))
    fresh = template._replace(outer=parts.loop.init(theta))
    return fresh, template
  saved = found[1] if found else template
  rest = between.broadcast(group, _rest(saved), _rest(template))
  tasks = between.hand_out(group, saved.outer.tasks, template.outer.tasks)
  outer = parts.loop.place(rest.outer._replace(tasks=tasks))
  return rest._replace(outer=outer), template


def whole(parts: Parts, saved: Saved, template: Saved) -> Saved:
  """Returns the state with all tasks on process 0, for a checkpoint.

  Args:
    parts: the parts of the run.
    saved: the state with this process's tasks.
    template: from `start`.
  """
  tasks = between.collect(
    parts.loop.group, saved.outer.tasks, template.outer.tasks
  )
  return saved._replace(outer=saved.outer._replace(tasks=tasks))


def _rest(saved: Saved) -> Saved:
  return saved._replace(outer=saved.outer._replace(tasks=()))
