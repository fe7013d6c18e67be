"""Baselines of a task of four parameters, tuned and run in seconds.

Main names: `Quadratic`, `make`, `read`.
"""

import jax
import jax.numpy as jnp
import optax

from meta_train import make_baselines
from meta_train.evaluation import baseline_results, baselines
from tasks.base import Task

STEPS, SEEDS = 12, 2
ADAM = baselines.get_baseline("adam", rates=(0.01, 0.1, 0.3))
SGD = baselines.Baseline(
  "sgd",
  "optax.sgd",
  lambda rate, steps: optax.sgd(rate),
  (0.01, 0.3, 1e3),
  tuned_apart=True,
)


class Quadratic(Task):
  """Distance to a point; each seed starts elsewhere."""

  name = "quadratic"
  size = 4
  offset = 0.0

  def init(self, key):
    return jnp.sin(jnp.arange(float(self.size)) + jax.random.uniform(key))

  def loss(self, params, key, data):
    del key, data
    return jnp.sum(params**2) + self.offset


class Rated(Quadratic):
  """The same, measured by an accuracy too."""

  def loss_with_state_and_aux(self, params, state, key, data):
    loss, state, aux = super().loss_with_state_and_aux(params, state, key, data)
    return loss, state, {**aux, "accuracy": loss}


def make(folder, wanted=(ADAM, SGD), task=None, reference_steps=0):
  """Writes what a folder lacks; returns what was said meanwhile."""
  said = []
  make_baselines.make(
    [task or Quadratic()],
    wanted,
    folder,
    num_steps=STEPS,
    num_seeds=SEEDS,
    reference_steps=reference_steps,
    provenance={"versions": {"jax": jax.__version__}, "device_kind": "cpu"},
    on_job=said.append,
  )
  return said


def read(folder, wanted=(ADAM, SGD), task=None, **changes):
  """Returns the rows that a folder holds, and what is refused."""
  settings = {"num_steps": STEPS, "num_seeds": SEEDS, **changes}
  return baseline_results.read(
    task or Quadratic(), wanted, folder=folder, **settings
  )
