"""Families of different shapes in one outer step, with all that can be on."""

import jax
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import tasks
from meta_train.config import MetaTrainConfig
from meta_train.engine import training
from tasks import augment

SMALL = dict(
  num_tasks=4,
  num_devices=1,
  truncation=4,
  min_horizon=8,
  max_horizon=16,
  hidden_units=2,
)
EVERYTHING = dict(
  estimator="nres",
  noise_period=8,
  num_pairs=2,
  objective="log_validation",
  horizon_curriculum=5,
  wrong_num_steps=0.5,
  sigma_scale="memory:0.3,controller:2",
  shaping="rank",
  failing_states=2,
  failing_share=0.5,
  expert="muon",
  expert_fade=5,
)


def families(*more):
  """A model state in one, an augmentation of each sample in the other."""
  return (
    augment.augment(
      tasks.registry.family("softmax_digits"), "delayed_gradient"
    ),
    augment.augment(
      tasks.registry.family("quadratic_16"),
      "reparametrize_tensor",
      "scale_loss",
    ),
    *map(tasks.registry.family, more),
  )


def trained(config, problems, num_steps):
  """Returns the parts, the first state, and state and metrics of each step."""
  parts = training.build(config, problems)
  state = parts.loop.init(ravel_pytree(parts.theta)[0])
  first, steps, programs = jax.device_get(state.tasks), [], []
  for _ in range(num_steps):
    state, metrics = parts.loop.step(state)
    programs.append(parts.loop.compiled_programs())
    steps.append((jax.device_get(state._replace(outer_step=())), metrics))
  # One program for each family and one for theta, after the first step.
  assert programs == [len(problems) + 1] * num_steps
  return first, steps


def check(first, steps, problems):
  for state, metrics in steps:
    assert len(metrics.family_losses) == len(problems)
    assert np.all(np.isfinite(metrics.family_losses))
    np.testing.assert_allclose(
      metrics.meta_loss, np.mean(metrics.family_losses), rtol=1e-5
    )
    assert metrics.grad_variance > 0 and np.isfinite(metrics.grad_snr)
    for leaf in jax.tree.leaves(state):
      if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        assert np.all(np.isfinite(leaf))
  state, _ = steps[-1]
  shapes = {task.runs.params.shape[2:] for task in state.tasks}
  assert len(shapes) == len(problems)
  # Every family has been trained, by every copy on its own.
  for before, after in zip(first, state.tasks, strict=True):
    assert np.all(np.any(before.runs.params != after.runs.params, axis=(2, 3)))
  # The model state, past parameters here, belongs to the copies too.
  moved = [
    np.any(a != b)
    for a, b in zip(
      jax.tree.leaves(first[0].runs.model_state),
      jax.tree.leaves(state.tasks[0].runs.model_state),
      strict=True,
    )
  ]
  assert moved and all(moved)
  # Each sample has an augmentation of its own: no two are equal.
  draws = [np.asarray(x) for x in jax.tree.leaves(first[1].episode.cfg)]
  own = [x for x in draws if len(np.unique(x, axis=0)) == len(x)]
  assert len(own) >= 2


def test_a_mixed_outer_step_trains_every_family_and_compiles_once():
  problems = families()
  first, steps = trained(MetaTrainConfig(**SMALL), problems, 6)
  check(first, steps, problems)


@pytest.mark.slow
def test_everything_at_once_on_a_mixed_suite():
  problems = families("conv_digits_8_16")
  first, steps = trained(MetaTrainConfig(**SMALL, **EVERYTHING), problems, 12)
  check(first, steps, problems)
  lengths = [state.tasks[0].episode.length for state, _ in steps]
  # The curriculum: runs of the first outer steps are short, later ones longer.
  assert lengths[0].max() <= 8 < max(x.max() for x in lengths)
  weights = [np.max(s.tasks[0].episode.supervision) for s, _ in steps]
  assert weights[-1] < weights[0] == np.float32(0.7)
