"""The runs of a baseline on a task, by its protocol.

Adam's constant rates are all run on all seeds, and on for as many steps again
or more, which gives the lower envelope that speed-ups are measured by. Other
baselines are tuned as `meta_train.evaluation.baselines` says; what is known of
a part of their grid is not computed again. Curves are kept for the best rate
alone; for the others the final losses are.

What a baseline's code does is not in its name and grid, so its *action* is
measured too: the sizes of its updates on a small fixed stream of gradients.

Names: `baseline_job`, `action`, `acts_as`, `REFERENCE`, `TUNING_SEED`,
`BEYOND`.
"""

import dataclasses
import functools
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
#: The reference trains for so many times as many steps as a candidate, or more.
BEYOND = 2
_ACTION_STEPS = 20


@functools.cache
def action(baseline: Baseline) -> tuple[float, ...]:
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

  return tuple(float(f"{x:.6g}") for x in np.asarray(run()))


def acts_as(baseline: Baseline, measured: Sequence[float]) -> bool:
  """Whether a baseline does what one did whose action was measured.

  Args:
    baseline: as it is today, with the grid of that time.
    measured: its `action` then.
  """
  today = action(baseline)
  # Steps that are nothing but rounding don't count.
  least = 1e-4 * max(today[:-1])
  return bool(np.allclose(measured, today, rtol=1e-3, atol=least))


def baseline_job(
  task: Any,
  baseline: Baseline,
  *,
  num_steps: int,
  seeds: Sequence[int],
  setting: dict[str, Any] | None = None,
  reference_steps: int | None = None,
  known: Sequence[Row] = (),
  **options: Any,
) -> jobs.Job:
  """Makes the job of tuning and running a baseline on a task.

  Args:
    task: an inner task.
    baseline: the baseline.
    num_steps: inner steps of a run.
    seeds: numbers of the runs to compare on.
    setting: see `evaluate.common_fields`.
    reference_steps: steps of the reference, for its envelope; `None`: `BEYOND`
      times as many as of others, 0: no envelope.
    known: rows of this baseline on this task, as this job would make them, of
      any of its rates; not of the reference.
    **options: passed to `evaluate.run_curves`.
  """
  if reference_steps is None:
    reference_steps = BEYOND * num_steps
  is_reference = baseline.name == REFERENCE and reference_steps > 0
  extra = reference_steps - num_steps if is_reference else 0

  def run(devices: jobs.Devices) -> list[Row]:
    shared = {**options, "num_steps": num_steps, "devices": devices}
    if baseline.tuned_apart:
      return _tuned_apart(task, baseline, seeds, setting, shared, known)
    return _full_grid(task, baseline, seeds, setting, shared, extra)

  where = f", {setting['sweep']} {setting['value']}" if setting else ""
  return jobs.Job(
    group=evaluate.group_name(
      task,
      baseline_candidate(baseline),
      [num_steps, list(seeds), setting, TUNING_SEED, extra],
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
    rows.append(run_rows.envelope_row(common, baseline.name, curves, seeds))
  return rows


def _tuned_apart(task, baseline, seeds, setting, shared, known) -> list[Row]:
  grid = baseline_candidate(baseline, role="tuning")
  common = evaluate.common_fields(task, grid, shared["num_steps"], setting)

  def runs(rates, role, seeds) -> list[Row]:
    """Returns the rows of some rates, those that are known as they are."""
    rows = [r for r in known if r["role"] == role and r["seed"] in seeds]
    missing = [
      rate
      for rate in rates
      if {r["seed"] for r in rows if r["learning_rate"] == rate} != set(seeds)
    ]
    if missing:
      some = dataclasses.replace(baseline, rates=tuple(missing))
      candidate = baseline_candidate(some, role=role)
      curves = evaluate.run_curves(task, candidate, seeds=seeds, **shared)
      made = run_rows.curve_rows(common, candidate.variants, seeds, curves)
      rows = [r for r in rows if r["learning_rate"] not in missing] + [*made]
    return [r for rate in rates for r in rows if r["learning_rate"] == rate]

  tuning = runs(baseline.rates, "tuning", (TUNING_SEED,))
  return [
    *map(_bare, tuning),
    *runs((_best(tuning),), "baseline", tuple(seeds)),
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
