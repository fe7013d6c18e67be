"""Rows of a made-up suite whose answers are known, for tests of reports.

Adam follows 1 / (1 + a t), times a noise that belongs to the seed; another
optimizer follows it at a multiple of the speed, or diverges.
"""

import numpy as np

TASKS = ("one", "two", "three")
N = 200
SEEDS = 5
RATES = (0.001, 0.01, 0.1)
#: Of each rate, how fast Adam is; the last one is best.
SPEEDS = {0.001: 0.01, 0.01: 0.02, 0.1: 0.05}


def curve(
  speed, num_steps=N, seed=0, scale=1.0, shift=0.0, spread=0.02, noise=0.0
):
  """Returns losses at the middle of each step.

  Seeds end at levels that differ by `spread`; noise depends on seed and speed.
  """
  steps = np.arange(num_steps) + 0.5
  clean = scale * (1 + spread * seed) / (1.0 + speed * steps)
  rng = np.random.default_rng([seed, round(1000 * speed)])
  return clean * np.exp(noise * rng.normal(size=2 * N)[:num_steps]) - shift


def row(task, optimizer, role, rate, seed, losses, **changes):
  """Returns one row of a run with these losses, four steps to a point."""
  broken = ~np.isfinite(losses)
  points = losses.reshape(-1, 4).mean(-1)
  final = None if broken.any() else float(losses[-1])
  return {
    "group": f"{task} {optimizer}",
    "group_size": 1,
    "format": 2,
    "task": task,
    "num_steps": N,
    "setting": None,
    "optimizer": optimizer,
    "role": role,
    "learning_rate": rate,
    "seed": seed,
    "parameters": 10,
    "state_bytes": 80,
    "final": {
      "train": {"loss": final},
      "valid": {
        "loss": None if final is None else 1.1 * final,
        "accuracy": 0.5,
      },
    },
    "first_loss": float(losses[0]),
    "last_loss": None if broken.any() else float(losses[-N // 20 :].mean()),
    "diverged": bool(broken.any()),
    "diverged_at": None,
    "curve_every": 4,
    "curve": [None if np.isinf(x) else float(x) for x in points],
    **changes,
  }


def adam_rows(task, **options):
  """Returns Adam's grid on all seeds, and its envelope for twice the steps."""
  from meta_train.evaluation.measures import smoothing

  rows = [
    row(task, "adam", "baseline", rate, seed, curve(speed, N, seed, **options))
    for rate, speed in SPEEDS.items()
    for seed in range(SEEDS)
  ]
  grid = np.asarray(
    [
      [curve(speed, 2 * N, seed, **options) for seed in range(SEEDS)]
      for speed in SPEEDS.values()
    ]
  )
  envelope = smoothing.envelope(grid)[3::4]
  rows.append(
    {
      **row(task, "adam", "envelope", None, None, np.ones(N)),
      "seeds": list(range(SEEDS)),
      "final": {},
      "curve": envelope.tolist(),
    }
  )
  return rows


def candidate_rows(task, name, factor, *, role="learned", **options):
  """Returns runs that follow Adam's best rate at a multiple of the speed.

  A factor of infinity is for runs that diverge in the middle.
  """
  rows = []
  for seed in range(SEEDS):
    if np.isinf(factor):
      losses = curve(0.01, N, seed, **options)
      losses[N // 2 :] = np.inf
    else:
      losses = curve(factor * 0.05, N, seed, **options)
    rows.append(row(task, name, role, None, seed, losses))
  return rows


def standings(factor, *, name="flt", tasks=TASKS, extra=(), **options):
  """Returns standings, and gaps, of a candidate beside Adam.

  `extra` are rows of others.
  """
  from meta_train.evaluation import row_standings

  rows = [
    each
    for task in tasks
    for each in (
      *candidate_rows(task, name, factor, **options),
      *adam_rows(task, **options),
    )
  ]
  return row_standings.standings([*rows, *extra])
