"""Tasks in both directions between this package and learned_optimization.

Runs where that package is installed.
"""

import jax
import numpy as np
import pytest

import tasks
from tasks import augment, host_data, registry

_PEER = "learned_optimization"
quadratics = pytest.importorskip(f"{_PEER}.tasks.quadratics")
training = pytest.importorskip(f"{_PEER}.training")
_LEARNED = pytest.importorskip(f"{_PEER}.learned_optimizers.base")
_OUTER = f"{_PEER}.outer_trainers"
pes = pytest.importorskip(f"{_OUTER}.truncated_pes")
step_lib = pytest.importorskip(f"{_OUTER}.lopt_truncated_step")
schedules = pytest.importorskip(f"{_OUTER}.truncation_schedule")
learner = pytest.importorskip(f"{_OUTER}.gradient_learner")

KEY = jax.random.PRNGKey(0)  # The peer's keys are of the old kind.


def test_a_task_of_theirs_is_a_family_of_ours():
  family = tasks.single_task_to_family(quadratics.QuadraticTask())
  family = augment.augment(family, "scale_loss")
  task = family.sample_task(KEY)
  assert np.isfinite(task.loss(task.init(KEY), KEY, None))


def test_batches_on_the_host_have_their_shapes():
  family = tasks.single_task_to_family(registry.task("mlp_digits_48"))
  assert training.get_batches(family, [2, 3], split="train") == ()
  family.datasets = host_data.HostDatasets(family.task)
  theirs = training.get_batches(family, [2, 3], split="train")
  ours = host_data.host_batches(family.datasets, (2, 3))
  assert jax.tree.map(np.shape, theirs) == jax.tree.map(np.shape, ours)


def test_our_family_is_meta_trained_there():
  """Their PES gives a finite, nonzero meta-gradient on our family."""
  family = registry.family("mlp_digits_32", hidden=(4,), init_scale=(0.5, 2.0))
  lopt = _LEARNED.LearnableAdam()
  step = step_lib.VectorizedLOptTruncatedStep(
    family,
    lopt,
    schedules.ConstantTruncationSchedule(10),
    num_tasks=2,
    random_initial_iteration_offset=5,
  )
  estimator = pes.TruncatedPES(step, trunc_length=5, steps_per_jit=5)
  weights = learner.WorkerWeights(lopt.init(KEY), None, learner.OuterState(1))
  state = estimator.init_worker_state(weights, KEY)
  out, _ = estimator.compute_gradient_estimate(
    weights, KEY, state, with_summary=False
  )
  assert np.isfinite(out.mean_loss)
  assert all(np.abs(g).sum() > 0 for g in jax.tree.leaves(out.grad))
