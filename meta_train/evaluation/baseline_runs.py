"""The runs of a baseline on a task, by its protocol.

Adam's constant rates are all run on all seeds, and on for as many steps again,
which gives the lower envelope that speed-ups are measured by. Other baselines
are tuned as `meta_train.evaluation.baselines` says. Curves are kept for the
best rate alone; for the others the final losses are.

What a baseline's code does is not in its name and grid, so its *action* is
measured too: the sizes of its updates on a small fixed stream of gradients.

Names: `baseline_job`, `action`, `REFERENCE`, `TUNING_SEED`, `BEYOND`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from meta_train.evaluation import evaluate, jobs, run_rows
from meta_train.evaluation.baselines import Baseline
from meta_train.evaluation.candidates import baseline_candidate
from meta_train.evaluation.comparison import best_rate
from meta_train.rows import Row

#: The baseline that speed-ups are measured against.
REFERENCE = "adam"
#: Number of the seed that learning rates are chosen on, never compared on.
TUNING_SEED = 1000
#: The reference trains for so many times as many steps as a candidate.
BEYOND = 2
_ACTION_STEPS = 20


def action(baseline: Baseline) -> list[float]:
  """Returns what a baseline does, as norms of its updates.

  A matrix and a vector get 20 gradients of sines, at the middle rate of the
  grid; the last number is the norm of the parameters that would be measured.

  Args:
    baseline: the baseline.
  """
  tx = baseline.factory(
    jnp.float32(baseline.rates[len(baseline.rates) // 2]), _ACTION_STEPS
  )

  def waves(shift):
    places = {"matrix": np.arange(12.0).reshape(4, 3), "vector": np.arange(3.0)}
    return jax.tree.map(lambda x: jnp.float32(jnp.sin(x + shift)), places)

  def step(carry, i):
    params, state = carry
    updates, state = tx.update(waves(1.7 * i), state, params)
    norm = optax.tree.norm(updates)
    return (optax.apply_updates(params, updates), state), norm

  @jax.jit
  def run():
    params = waves(0.0)
    (params, state), norms = jax.lax.scan(
      step, (params, tx.init(params)), jnp.arange(float(_ACTION_STEPS))
    )
    if baseline.eval_params is not None:
      params = baseline.eval_params(state, params)
    return jnp.append(norms, optax.tree.norm(params))

  return [float(f"{x:.6g}") for x in np.asarray(run())]


def baseline_job(
  task: Any,
  baseline: Baseline,
  *,
  num_steps: int,
  seeds: Sequence[int],
  setting: dict[str, Any] | None = None,
  with_envelope: bool = True,
  **options: Any,
) -> jobs.Job:
  """Makes the job of tuning and running a baseline on a task.

  Args:
    task: an inner task.
    baseline: the baseline.
    num_steps: inner steps of a run.
    seeds: numbers of the runs to compare on.
    setting: see `evaluate.common_fields`.
    with_envelope: whether the reference runs on for its envelope.
    **options: passed to `evaluate.run_curves`.
  """
  beyond = BEYOND - 1 if baseline.name == REFERENCE and with_envelope else 0

  def run(devices: jobs.Devices) -> list[Row]:
    shared = {**options, "num_steps": num_steps, "devices": devices}
    if baseline.tuned_apart:
      return _tuned_apart(task, baseline, seeds, setting, shared)
    return _full_grid(
      task, baseline, seeds, setting, shared, beyond * num_steps
    )

  where = f", {setting['sweep']} {setting['value']}" if setting else ""
  return jobs.Job(
    group=evaluate.group_name(
      task,
      baseline_candidate(baseline),
      [num_steps, list(seeds), setting, TUNING_SEED, beyond],
      options,
    ),
    what=f"{task.name}: {baseline.name}{where}, {len(baseline.rates)} rates",
    run=run,
  )


def _full_grid(task, baseline, seeds, setting, shared, extra) -> list[Row]:
  candidate = baseline_candidate(baseline)
  common = evaluate.common_fields(task, candidate, shared["num_steps"], setting)
  curves = evaluate.run_curves(
    task, candidate, seeds=seeds, extra_steps=extra, **shared
  )
  rows = list(run_rows.curve_rows(common, candidate.variants, seeds, curves))
  best = _best(rows)
  rows = [row if row["learning_rate"] == best else _bare(row) for row in rows]
  if extra:
    rows.append(run_rows.envelope_row(common, baseline.name, curves))
  return rows


def _tuned_apart(task, baseline, seeds, setting, shared) -> list[Row]:
  grid = baseline_candidate(baseline, role="tuning")
  common = evaluate.common_fields(task, grid, shared["num_steps"], setting)
  tuning_seeds = (TUNING_SEED,)
  curves = evaluate.run_curves(task, grid, seeds=tuning_seeds, **shared)
  tuning = list(
    run_rows.curve_rows(common, grid.variants, tuning_seeds, curves)
  )
  chosen = baseline_candidate(
    dataclasses.replace(baseline, rates=(_best(tuning),))
  )
  curves = evaluate.run_curves(task, chosen, seeds=seeds, **shared)
  return [
    *map(_bare, tuning),
    *run_rows.curve_rows(common, chosen.variants, seeds, curves),
  ]


def _best(rows: Sequence[Row]) -> float:
  """Returns the rate with the lowest mean final training loss."""
  losses: dict[float, list[float]] = {}
  for row in rows:
    final = row["final"]["train"]["loss"]
    losses.setdefault(row["learning_rate"], []).append(final)
  return best_rate({rate: np.asarray(each) for rate, each in losses.items()})


def _bare(row: Row) -> Row:
  return {**row, "curve": []}
