"""What the tests with learned_optimization share; they skip without it."""

import jax
import pytest

KEY = jax.random.PRNGKey(0)  # The peer's keys are of the old kind.


def load(name):
  """Imports a module of the peer, or skips what asks for it."""
  return pytest.importorskip(
    f"learned_optimization.{name}", exc_type=ImportError
  )


def meta_train(family, lopt, *, outer_steps, num_tasks=2, horizon=10):
  """Meta-trains by the peer's PES and Adam.

  Args:
    family: a task family of either package.
    lopt: a learned optimizer of the peer's form.
    outer_steps: how many.
    num_tasks: how many of the family at once.
    horizon: inner steps of an episode.

  Returns:
    (theta before, theta after, meta-losses).
  """
  steps = load("outer_trainers.lopt_truncated_step")
  schedules = load("outer_trainers.truncation_schedule")
  learners = load("outer_trainers.gradient_learner")
  step = steps.VectorizedLOptTruncatedStep(
    family,
    lopt,
    schedules.ConstantTruncationSchedule(horizon),
    num_tasks=num_tasks,
    random_initial_iteration_offset=horizon // 2,
  )
  learner = learners.SingleMachineGradientLearner(
    lopt,
    [
      load("outer_trainers.truncated_pes").TruncatedPES(
        step, trunc_length=5, steps_per_jit=5
      )
    ],
    load("optimizers.optax_opts").Adam(1e-2),
  )
  state = learner.init(KEY)
  before = learner.get_meta_params(state)
  losses = []
  for n in range(outer_steps):
    state, loss, _ = learner.update(state, jax.random.fold_in(KEY, n))
    losses.append(float(loss))
  return before, learner.get_meta_params(state), losses
