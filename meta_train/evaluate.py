"""Evaluation: learned and hand-designed optimizers on the same inner tasks.

Idea: every optimizer trains every task from the same seeds, and each run
becomes one row in `evaluation.jsonl`, from which all tables and pictures are
made. Rows that are already there, from the same weights, task, steps and
seeds, are not computed again.

Names: `evaluate_run`, `evaluate`, `baseline_candidate`, `learned_candidate`,
`write_kernels`, `Candidate`.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key, PyTree

from meta_train import baselines as baselines_lib
from meta_train.curves import Curves, training_curves
from meta_train.rows import Row, read_rows, write_json, write_rows

FILE_NAME = "evaluation.jsonl"
KERNELS = "kernels.json"
FORMAT = 1
# Curves are averaged over consecutive steps down to at most so many points.
MAX_CURVE_POINTS = 200
# Keeps the keys of evaluation apart from those of meta-training.
_STREAM = 0x0E7A1


class Variant(NamedTuple):
  """What the rows say about one slice of a candidate's `hyper`.

  Attributes:
    optimizer: name in tables and pictures.
    role: "learned", "untrained" or "baseline".
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
    make_tx: (slice of `hyper`, num_steps) -> optax transformation.
    hyper: pytree of arrays with leading axis `variants`.
    fingerprint: changes whenever the optimizers do.
  """

  name: str
  variants: tuple[Variant, ...]
  make_tx: Callable[[PyTree, int], optax.GradientTransformation]
  hyper: PyTree
  fingerprint: str


def _digest(*parts: Any) -> str:
  text = json.dumps(parts, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _tree_digest(tree: PyTree) -> str:
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    leaf = np.asarray(leaf)
    digest.update(
      f"{jax.tree_util.keystr(path)}{leaf.dtype}{leaf.shape}".encode()
    )
    digest.update(leaf.tobytes())
  return digest.hexdigest()[:16]


def baseline_candidate(baseline: baselines_lib.Baseline) -> Candidate:
  """Makes the whole grid of a baseline one candidate.

  Args:
    baseline: the baseline; see `meta_train.baselines`.

  Returns:
    A candidate with one variant per learning rate.
  """
  return Candidate(
    name=baseline.name,
    variants=tuple(
      Variant(baseline.name, "baseline", rate) for rate in baseline.rates
    ),
    make_tx=baseline.factory,
    hyper=jnp.asarray(baseline.rates, jnp.float32),
    fingerprint=_digest(baseline.name, baseline.description, optax.__version__),
  )


def learned_candidate(
  optimizer: Any,
  theta: PyTree,
  *,
  untrained: PyTree | None = None,
  name: str = "flt",
) -> Candidate:
  """Makes a learned optimizer, and its untrained self, one candidate.

  Args:
    optimizer: has `transform(theta, num_steps=...)`, an optax
      transformation, and optionally `config`.
    theta: meta-trained parameters.
    untrained: meta-parameters at initialisation, of the same structure;
      `None`: not evaluated.
    name: name of the meta-trained optimizer in rows.

  Returns:
    A candidate with one or two variants.
  """
  variants, thetas = [Variant(name, "learned")], [theta]
  if untrained is not None:
    variants.append(Variant(f"{name}, untrained", "untrained"))
    thetas.append(untrained)
  return Candidate(
    name=name,
    variants=tuple(variants),
    make_tx=lambda theta, num_steps: optimizer.transform(
      theta, num_steps=num_steps
    ),
    hyper=jax.tree.map(lambda *leaves: jnp.stack(leaves), *thetas),
    fingerprint=_digest(
      repr(getattr(optimizer, "config", optimizer.__class__)),
      [_tree_digest(theta) for theta in thetas],
    ),
  )


def seed_keys(seed: int, num_seeds: int) -> Key[Array, "seeds"]:
  """Returns the keys of runs; key i does not depend on how many there are.

  Args:
    seed: seed of the evaluation.
    num_seeds: number of runs.

  Returns:
    One typed key per run.
  """
  base = jax.random.fold_in(jax.random.key(seed), _STREAM)
  return jax.vmap(lambda i: jax.random.fold_in(base, i))(jnp.arange(num_seeds))


def _thin(curve: np.ndarray) -> tuple[list[float], int]:
  """Averages a curve over blocks of steps; also returns the block's size."""
  every = -(-len(curve) // MAX_CURVE_POINTS)
  points = [
    float(curve[i : i + every].mean()) for i in range(0, len(curve), every)
  ]
  return [float(f"{point:.5g}") for point in points], every


def _rows(common: Row, variants: Sequence[Variant], curves: Curves):
  """Yields one row per run."""
  losses, diverged = np.asarray(curves.losses), np.asarray(curves.diverged)
  final = jax.tree.map(np.asarray, curves.final)
  num_variants, num_seeds = diverged.shape
  for i, j in itertools.product(range(num_variants), range(num_seeds)):
    broken = ~np.isfinite(losses[i, j])
    curve, every = _thin(losses[i, j])
    yield {
      **common,
      **variants[i]._asdict(),
      "seed": j,
      "final": {
        split: {
          measure: float(values[i, j]) for measure, values in measures.items()
        }
        for split, measures in final.items()
      },
      "diverged": bool(diverged[i, j]),
      "diverged_at": int(broken.argmax()) if broken.any() else None,
      "curve_every": every,
      "curve": curve,
    }


def _task_identity(task: Any) -> tuple:
  return (
    task.name,
    getattr(task, "architecture", ""),
    sorted(map(str, getattr(task, "data_ids", ()))),
  )


def evaluate(
  tasks: Iterable[Any],
  candidates: Sequence[Candidate],
  path: str | os.PathLike,
  *,
  num_steps: int,
  num_seeds: int = 16,
  seed: int = 0,
  on_group: Callable[[str], None] = lambda message: None,
  **options: Any,
) -> list[Row]:
  """Runs every candidate on every task and writes one row per run.

  Args:
    tasks: inner tasks; see `tasks.base.Task`.
    candidates: optimizers; see `baseline_candidate`, `learned_candidate`.
    path: file of rows. Rows in it from the same computation are kept, all
      others are dropped; it is replaced after each group of runs.
    num_steps: inner steps of a run.
    num_seeds: runs per task and variant.
    seed: seed of the evaluation; it fixes parameters and batches of all
      runs, for every optimizer alike.
    on_group: called with a line of text before each group is computed.
    **options: passed to `training_curves`.

  Returns:
    The rows that are now in the file.
  """
  path = pathlib.Path(path)
  old: Mapping[str, list[Row]] = {}
  if path.exists():
    old = _by_group(read_rows(path, required=("group", "seed")).rows)
  rows: list[Row] = []
  keys = seed_keys(seed, num_seeds)
  for task, candidate in itertools.product(tasks, candidates):
    group = _digest(
      FORMAT,
      _task_identity(task),
      candidate.fingerprint,
      candidate.variants,
      [num_steps, num_seeds, seed],
      options,
      [jax.__version__, jax.default_backend()],
    )
    kept = old.get(group, [])
    if len(kept) == len(candidate.variants) * num_seeds:
      rows += kept
      continue
    on_group(
      f"{task.name}: {candidate.name}, {len(candidate.variants)} "
      f"variants x {num_seeds} seeds x {num_steps} steps"
    )
    curves = training_curves(
      task,
      functools.partial(_make_tx, candidate, num_steps),
      candidate.hyper,
      keys,
      num_steps=num_steps,
      **options,
    )
    common = {
      "format": FORMAT,
      "group": group,
      "task": task.name,
      "num_steps": num_steps,
    }
    rows += _rows(common, candidate.variants, curves)
    write_rows(path, rows)
  write_rows(path, rows)
  return rows


def _make_tx(candidate, num_steps, hyper):
  return candidate.make_tx(hyper, num_steps)


def _by_group(rows: Iterable[Row]) -> dict[str, list[Row]]:
  groups: dict[str, list[Row]] = {}
  for row in rows:
    groups.setdefault(row["group"], []).append(row)
  return groups


def write_kernels(
  path: str | os.PathLike,
  optimizer: Any,
  theta: PyTree,
  untrained: PyTree,
  *,
  max_lag: int = 1000,
) -> None:
  """Writes the learned weights over timesteps, before and after.

  Args:
    path: file to write; see `meta_train.plots.kernels` for its content.
    optimizer: has `timestep_kernels(theta, lags)`, a dict of weights by name.
    theta: meta-trained parameters.
    untrained: meta-parameters at initialisation.
    max_lag: largest age in inner steps.
  """
  lags = np.arange(max_lag + 1)
  initial, learned = (
    optimizer.timestep_kernels(which, jnp.asarray(lags, jnp.float32))
    for which in (untrained, theta)
  )

  def rounded(weights):
    return [float(f"{weight:.6g}") for weight in np.asarray(weights)]

  kernels = {
    name: {"initial": rounded(initial[name]), "learned": rounded(weights)}
    for name, weights in learned.items()
  }
  write_json(path, {"lags": lags.tolist(), "kernels": kernels})


def evaluate_run(
  run_dir: str | os.PathLike,
  tasks: Iterable[Any],
  optimizer: Any,
  theta: PyTree,
  untrained: PyTree,
  *,
  num_steps: int,
  num_seeds: int = 16,
  baselines: Sequence[str] = ("adam",),
  **options: Any,
) -> list[Row]:
  """Evaluates what a run has learned; writes the rows and the kernels.

  Args:
    run_dir: the run's folder.
    tasks: held-out tasks.
    optimizer: the learned optimizer; see `learned_candidate` and
      `write_kernels` for the methods it needs.
    theta: meta-trained parameters.
    untrained: meta-parameters at initialisation.
    num_steps: inner steps of an evaluation run.
    num_seeds: paired runs per task and optimizer.
    baselines: names of the baselines, tuned over their stated grids.
    **options: passed to `evaluate`.

  Returns:
    The rows in `evaluation.jsonl`.
  """
  run_dir = pathlib.Path(run_dir)
  candidates = [
    learned_candidate(optimizer, theta, untrained=untrained),
    *(baseline_candidate(baselines_lib.get_baseline(b)) for b in baselines),
  ]
  rows = evaluate(
    tasks,
    candidates,
    run_dir / FILE_NAME,
    num_steps=num_steps,
    num_seeds=num_seeds,
    **options,
  )
  write_kernels(run_dir / KERNELS, optimizer, theta, untrained)
  return rows
