"""Evaluation rows of made-up curves, for tests of what is made from them."""

import numpy as np

NUM_SEEDS = 4


def row(optimizer, role, rate, seed, loss, **changes):
  """Returns one row; its curve falls from 2 to the final loss."""
  diverged = not np.isfinite(loss)
  curve = [2.0, None] if diverged else list(np.geomspace(2.0, loss, 20))
  return {
    "format": 1,
    "group": f"{optimizer}{rate}",
    "task": "toy",
    "num_steps": 20,
    "optimizer": optimizer,
    "role": role,
    "learning_rate": rate,
    "seed": seed,
    "final": {
      "train": {"loss": None if diverged else loss},
      "valid": {"loss": None if diverged else 2 * loss, "accuracy": 0.5},
    },
    "diverged": diverged,
    "diverged_at": 1 if diverged else None,
    "curve_every": 1,
    "curve": (curve * 20)[:20] if diverged else curve,
    **changes,
  }


def rows(learned=0.1, untrained=1.0, adam=None, **changes):
  """Returns the rows of an evaluation with the given mean losses."""
  adam = {0.001: 0.9, 0.01: 0.2, 0.1: np.inf} if adam is None else adam
  variants = [("flt", "learned", None, learned)]
  variants += [("flt, untrained", "untrained", None, untrained)]
  variants += [("adam", "baseline", rate, loss) for rate, loss in adam.items()]
  return [
    row(optimizer, role, rate, seed, loss * (1 + 0.1 * seed), **changes)
    for optimizer, role, rate, loss in variants
    for seed in range(NUM_SEEDS)
  ]
