"""A buffer that resumes inner states where training went wrong.

Where an optimizer fails is seldom where it starts: training is well under
way, and then the loss rises. Each task keeps the newest few states from which
that happened, and with some probability its next episode begins in one of
them instead of at initial parameters.

A state is kept at the start of an unroll in which, in some copy that had not
diverged before, the run diverged or its training loss rose: its mean over the
second half of the unroll exceeded that over the first by a quarter of its
size. It is the first such copy's state whose parameters are finite, and the
episode's task; the oldest of a full buffer makes room. Both halves of each
pair begin alike in it. What begins is an episode like any other for the
estimator: it counts its steps from 0 and remembers no perturbation, so that
theta answers for what it does from there on, exactly; it ends where the kept
one would have ended, and the optimizer is told what it was told and counts on.

The gradient is that of a mixture of episodes, fresh and resumed; the share of
the resumed, which are shorter, is one of episodes, not of steps.

It costs the memory of one inner state per slot and task.

Main names: `FailingStates`, `Kept`, `NO_BUFFER`.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from meta_train.engine.unroll import Episode, Run


class Kept(NamedTuple):
  """Kept states of one task.

  Attributes:
    episodes: what tasks they were, and how far; along the first axis.
    runs: where they stood.
    count: how many have ever been kept; the newest is at (count - 1) modulo
      the number of slots.
  """

  episodes: Episode
  runs: Run
  count: Int[Array, ""]  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True)
class FailingStates:
  """The buffer of a task, as functions.

  Attributes:
    slots: states that it keeps; 0: there is no buffer, nor any cost.
    share: probability that an episode begins in one of them.
  """

  slots: int = 0
  share: float = 0.0

  def init(self, episode: Episode, run: Run) -> Any:
    """Returns the empty buffer, given states of the right shapes."""
    if not self.slots:
      return ()
    episodes, runs = jax.tree.map(
      lambda x: jnp.stack([x] * self.slots), (episode, run)
    )
    return Kept(episodes, runs, jnp.zeros([], jnp.int32))

  def keep(
    self, kept: Any, episode: Episode, runs: Run, failed: Bool[Array, "copies"]
  ) -> Any:
    """Keeps a state from which a copy has failed, if one has.

    Args:
      kept: the buffer.
      episode: before the unroll.
      runs: the copies before the unroll.
      failed: which of them failed in it.
    """
    if not self.slots:
      return kept
    # The loss of a state's last step may be finite and what it led to not.
    finite = jnp.isfinite(runs.params).reshape(len(failed), -1)
    failed = failed & jnp.all(finite, axis=1)
    which, slot = jnp.argmax(failed), kept.count % self.slots
    run = jax.tree.map(lambda x: x[which], runs)
    episodes, runs = jax.tree.map(
      lambda old, new: old.at[slot].set(
        jnp.where(jnp.any(failed), new, old[slot])
      ),
      (kept.episodes, kept.runs),
      (episode, run),
    )
    return Kept(episodes, runs, kept.count + jnp.any(failed))

  def begin(
    self, kept: Any, key: PRNGKeyArray, episode: Episode, run: Run
  ) -> tuple[Episode, Run]:
    """Returns how an episode begins: as given, or in a kept state.

    Args:
      kept: the buffer.
      key: random key.
      episode: a fresh one.
      run: its run.
    """
    if not self.slots:
      return episode, run
    share_key, slot_key = jax.random.split(key)
    resumes = jax.random.bernoulli(share_key, self.share) & (kept.count > 0)
    filled = jnp.clip(kept.count, 1, self.slots)
    slot = jax.random.randint(slot_key, (), 0, filled)
    old: Episode
    old, old_run = jax.tree.map(lambda x: x[slot], (kept.episodes, kept.runs))
    rest = old.length - old.step
    old = old._replace(
      length=rest,
      step=jnp.zeros_like(old.step),
      # What an expert adds is that of today.
      supervision=episode.supervision,
    )
    return jax.tree.map(
      lambda a, b: jnp.where(resumes, a, b), (old, old_run), (episode, run)
    )


NO_BUFFER = FailingStates()
