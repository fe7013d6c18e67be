"""Optimizers to be evaluated: learned, hand-designed, or the user's own.

Idea: whatever is evaluated is a `Candidate`: one program apart from arrays,
with one or several variants (the learning rates of a grid, or the learned
optimizer before and after meta-training) that run side by side.

A user's own are made in `meta_train.evaluation.user_optimizers`.

Names: `Candidate`, `Variant`, `baseline_candidate`, `learned_candidate`,
`untrained_candidate`, `weights_candidate`, `free_name`.
"""

import dataclasses
import hashlib
import os
import pathlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PyTree

import flt_lopt
from flt_lopt.config import FEATURE_SET
from meta_train.errors import UserError
from meta_train.evaluation.baselines import Baseline
from meta_train.evaluation.curves import EvalParams
from meta_train.evaluation.definition import digest
from meta_train.evaluation.updating import update
from meta_train.terminal import say
from tasks.hosted import hosted_task


class Variant(NamedTuple):
  """What the rows say about one slice of a candidate's `hyper`.

  Attributes:
    optimizer: name in tables and pictures.
    role: "learned", "untrained", "user", "baseline", or "tuning" for runs
      that only choose a baseline's learning rate.
    learning_rate: that of a baseline's grid; `None` where nothing is tuned.
  """

  optimizer: str
  role: str
  learning_rate: float | None = None


@dataclasses.dataclass(frozen=True)
class Candidate:
  """Optimizers that are one program, apart from arrays.

  Attributes:
    name: name of the group in progress messages.
    variants: one for each slice of `hyper`.
    make_tx: (slice of `hyper`, num_steps) -> optax transformation; steps are
      `None` where they are withheld.
    hyper: pytree of arrays with leading axis `variants`.
    fingerprint: changes whenever the optimizers do.
    eval_params: see `meta_train.evaluation.curves.training_curves`.
    source: a learned optimizer and its theta; `None` for others.
    outer_step: outer steps that made theta, which rows then tell; `None`: not
      known, or none of a learned optimizer.
  """

  name: str
  variants: tuple[Variant, ...]
  make_tx: Callable[[PyTree, Any], optax.GradientTransformation]
  hyper: PyTree
  fingerprint: str
  eval_params: EvalParams | None = None
  source: tuple[Any, PyTree] | None = None
  outer_step: int | None = None

  def needs_num_steps(self, task: Any) -> bool:
    """Whether it can't train a task without the number of steps.

    Args:
      task: an inner task.
    """

    def step(key):
      params, _ = hosted_task(task).init_with_state(key)
      one = jax.tree.map(lambda x: x[0], self.hyper)
      tx = self.make_tx(one, None)
      return update(tx, params, tx.init(params), params, value=jnp.float32(0))

    try:
      jax.eval_shape(step, jax.random.key(0))
    except Exception:  # A user's factory raises what it likes.
      return True
    return False


def _tree_digest(tree: PyTree) -> str:
  found = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    leaf = np.asarray(leaf)
    found.update(
      f"{jax.tree_util.keystr(path)}{leaf.dtype}{leaf.shape}".encode()
    )
    found.update(leaf.tobytes())
  return found.hexdigest()[:16]


def baseline_candidate(
  baseline: Baseline, *, role: str = "baseline"
) -> Candidate:
  """Makes the whole grid of a baseline one candidate.

  Args:
    baseline: the baseline; see `meta_train.evaluation.baselines`.
    role: what its runs are for; see `Variant`.

  Returns:
    A candidate with one variant per learning rate.
  """
  return Candidate(
    name=baseline.name,
    variants=tuple(
      Variant(baseline.name, role, rate) for rate in baseline.rates
    ),
    make_tx=baseline.factory,
    hyper=jnp.asarray(baseline.rates, jnp.float32),
    fingerprint=digest(baseline.name, baseline.description),
    eval_params=baseline.eval_params,
  )


def learned_candidate(
  optimizer: Any,
  theta: PyTree,
  *,
  untrained: PyTree | None = None,
  name: str = "flt",
  outer_step: int | None = None,
) -> Candidate:
  """Makes a learned optimizer, and its untrained self, one candidate.

  Args:
    optimizer: has `transform(theta, num_steps=...)`, an optax
      transformation, and optionally `config`.
    theta: meta-trained parameters.
    untrained: meta-parameters at initialisation, of the same structure;
      `None`: not evaluated.
    name: name of the meta-trained optimizer in rows.
    outer_step: outer steps that made theta; `None`: not told.

  Returns:
    A candidate with one or two variants.
  """
  variants, thetas = [Variant(name, "learned")], [theta]
  if untrained is not None:
    variants.append(_untrained_variant(name))
    thetas.append(untrained)
  return Candidate(
    name=name,
    variants=tuple(variants),
    make_tx=lambda theta, num_steps: optimizer.transform(
      theta, num_steps=num_steps
    ),
    hyper=jax.tree.map(lambda *leaves: jnp.stack(leaves), *thetas),
    fingerprint=digest(
      flt_lopt.__version__,
      FEATURE_SET,
      _described(optimizer),
      [_tree_digest(theta) for theta in thetas],
    ),
    source=(optimizer, theta),
    outer_step=outer_step,
  )


def _described(optimizer: Any) -> str:
  """Returns what an optimizer is but for theta, as text."""
  text = repr(getattr(optimizer, "config", optimizer.__class__))
  # Rows are older than this field.
  return text.replace(", gradient_limit=None", "")


def _untrained_variant(name: str) -> Variant:
  return Variant(f"{name}, untrained", "untrained")


def untrained_candidate(candidate: Candidate) -> Candidate:
  """Makes a learned optimizer at its initialisation a candidate of its own.

  Args:
    candidate: the learned one; see `weights_candidate`.
  """
  assert candidate.source is not None
  optimizer, _ = candidate.source
  variant = _untrained_variant(candidate.name)
  learned = learned_candidate(
    optimizer, optimizer.init(jax.random.key(0)), name=variant.optimizer
  )
  return dataclasses.replace(learned, variants=(variant,), source=None)


def weights_candidate(weights: str, taken: Iterable[str] = ()) -> Candidate:
  """Makes weights, by shipped name or path, a candidate.

  Args:
    weights: as for `flt_lopt.load`.
    taken: names that other candidates have.

  Returns:
    A candidate called by the shipped name, the file's name, or, for the
    `theta.safetensors` of a run, its folder's name.

  Raises:
    UserError: there are no such weights.
  """
  try:
    config, theta = flt_lopt.load(weights)
  except flt_lopt.WeightsError as error:
    raise UserError(f"--weights={weights}: {error}") from error
  path = pathlib.Path(os.path.abspath(weights))
  name = path.parent.name if path.stem == "theta" else path.stem
  optimizer = flt_lopt.LearnedOptimizer(config)
  return learned_candidate(optimizer, theta, name=free_name(name, taken))


def free_name(name: str, taken: Iterable[str]) -> str:
  """Returns a name, numbered if another candidate has it.

  Args:
    name: the name.
    taken: names that other candidates have.
  """
  taken = set(taken)
  names = [name, *(f"{name}_{i}" for i in range(2, len(taken) + 3))]
  free = next(each for each in names if each not in taken)
  if free != name:
    say(f"a second {name} is called {free} here")
  return free
