"""Every estimator estimates the gradient that its docstring says.

Statistical comparisons allow four standard errors of the mean over the stated
number of episodes: each coordinate fails by chance once in 16,000 seeds, and
the seeds are fixed.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from estimator_problems import (
  Influence,
  Line,
  Uncorrelated,
  Walk,
  estimates,
)

from meta_train.estimators import make_estimator
from meta_train.estimators.base import finite_or_zero

SIGMA = 0.3
WALK = jnp.array([-0.2, 0.1])
WHOLE = ("full_es", "full_grad")


def per_episode(name, problem, theta, *, samples, sigma=SIGMA, **options):
  """Mean over the calls of one episode: [samples, theta], in float64."""
  estimator = make_estimator(name, problem, problem.num_theta, sigma, **options)
  calls = problem.max_horizon // problem.truncation
  found, _ = estimates(
    estimator, theta, samples=samples, calls=1 if name in WHOLE else calls
  )
  return np.asarray(found.gradient, np.float64).mean(axis=1)


def errors(values, want):
  """Distance of the mean from `want`, in standard errors of the mean."""
  error = values.std(axis=0) / np.sqrt(len(values))
  return np.abs(values.mean(axis=0) - want) / error


# What each estimator smooths jointly, in inner steps of an episode of 3.
SMOOTHED = {
  "pes": ("pes", 1, {}),
  "pes, 2 pairs": ("pes", 1, {"num_pairs": 2}),
  "nres": ("nres", 2, {"noise_period": 2}),
  "es_single": ("es_single", 3, {}),
  "full_es": ("full_es", 3, {}),
}


@pytest.mark.parametrize("case", SMOOTHED)
def test_unbiased_for_its_own_smoothed_gradient(case):
  name, period, options = SMOOTHED[case]
  found = per_episode(name, Walk(), WALK, samples=100_000, **options)
  assert np.all(errors(found, Walk().smoothed(WALK, SIGMA, period)) < 4)
  # The test has teeth: it sees truncation, no smoothing, and others' smoothing.
  truncated = Walk().smoothed(WALK, SIGMA, period, truncated=True)
  assert np.max(errors(found, truncated)) > 20
  assert np.max(errors(found, Walk().gradient(WALK))) > 6
  other = Walk().smoothed(WALK, SIGMA, 3 if period < 3 else 1)
  assert np.max(errors(found, other)) > 6


def test_each_meta_parameter_may_have_its_own_sigma():
  sigma = jnp.array([0.1, 0.3])
  found = per_episode("pes", Walk(), WALK, samples=100_000, sigma=sigma)
  assert np.all(errors(found, Walk().smoothed(WALK, sigma, 1)) < 4)


def test_truncated_es_has_the_bias_it_documents_and_no_other():
  found = per_episode("truncated_es", Walk(), WALK, samples=100_000)
  biased = Walk().smoothed(WALK, SIGMA, 1, truncated=True)
  assert np.all(errors(found, biased) < 4)
  assert np.max(errors(found, Walk().smoothed(WALK, SIGMA, 1))) > 20


def test_backpropagation_is_exact_and_truncated_has_its_bias():
  whole = per_episode("full_grad", Walk(), WALK, samples=1)
  np.testing.assert_allclose(whole[0], Walk().gradient(WALK), rtol=1e-5)
  parts = per_episode("truncated_grad", Walk(), WALK, samples=1)
  biased = Walk().gradient(WALK, truncated=True)
  np.testing.assert_allclose(parts[0], biased, rtol=1e-5)
  assert np.linalg.norm(biased - whole) > 0.3 * np.linalg.norm(whole)


@pytest.mark.parametrize("bad", [np.inf, np.nan, 1e25])
def test_a_gradient_that_exploded_counts_as_zero(bad):
  tame = jnp.array([1.0, -2.0])
  np.testing.assert_array_equal(finite_or_zero(tame)[0], tame)
  assert finite_or_zero(tame)[1] == 0.0
  found, dropped = finite_or_zero(tame.at[0].set(bad))
  np.testing.assert_array_equal(found, 0.0)
  assert dropped == 1.0


def test_whole_episodes_of_every_length_are_masked_at_their_horizon():
  varied = Walk(shortest=1)
  wants = np.array([Walk(length=n).gradient(WALK) for n in (1, 2, 3)])
  found = per_episode("full_grad", varied, WALK, samples=600)
  close = np.all(np.abs(found[:, None] - wants) < 1e-5, axis=-1)
  assert np.all(close.sum(axis=1) == 1)
  # Each length has a third of the episodes, within 4 standard errors.
  assert np.all(np.abs(close.mean(axis=0) - 1 / 3) < 4 * np.sqrt(2 / 9 / 600))
  found = per_episode("full_es", varied, WALK, samples=100_000)
  wants = [Walk(length=n).smoothed(WALK, SIGMA, n) for n in (1, 2, 3)]
  assert np.all(errors(found, np.mean(wants, axis=0)) < 4)


@pytest.mark.parametrize(
  "name, begins, options",
  [
    ("pes", [1, 1, 1, 1, 1], {}),
    ("nres", [1, 0, 1, 0, 1], {"noise_period": 2}),
    ("es_single", [1, 0, 0, 0, 0], {}),
    ("truncated_es", None, {}),
  ],
)
def test_exact_on_a_quadratic_loss_sample_by_sample(name, begins, options):
  """With x+ - x- = 2 d and mean x, L+ - L- is 4 x d: no smoothing enters."""
  theta, problem = jnp.array([0.2]), Line(length=6)
  estimator = make_estimator(name, problem, 1, SIGMA, **options)
  found, states = estimates(estimator, theta, samples=50, calls=5)
  x = np.asarray(states.runs.params, np.float64)
  d = (x[..., 0] - x[..., 1]) / 2
  epsilon = np.diff(d, axis=1, prepend=0)
  credited = epsilon if begins is None else np.cumsum(epsilon * begins, axis=1)
  mean = 1 + 0.2 * np.arange(1, 6)
  want = credited * 2 * mean * d / SIGMA**2
  np.testing.assert_allclose(
    found.gradient[..., 0], want, rtol=1e-3, atol=1e-3 * np.abs(want).max()
  )
  if name == "es_single":
    # Then each estimate is the exact gradient times (epsilon / sigma)**2.
    exact = 2 * mean * np.arange(1, 6)
    np.testing.assert_allclose(
      want, (epsilon / SIGMA) ** 2 * exact, rtol=1e-3, atol=1e-5
    )


def test_full_es_is_exact_on_a_quadratic_loss_sample_by_sample():
  theta, problem = jnp.array([0.2]), Line()
  estimator = make_estimator("full_es", problem, 1, SIGMA)
  found, _ = estimates(estimator, theta, samples=50, calls=1)
  # The mean loss of a pair exceeds that at theta by epsilon**2 (1 + 4 + 9) / 3.
  excess = np.asarray(found.loss, np.float64) - problem.mean_loss(
    [0.2 + theta * 0] * 3
  )
  want = excess * 3 / 14 / SIGMA**2 * problem.gradient(theta)
  np.testing.assert_allclose(found.gradient[:, 0], want, rtol=1e-3, atol=1e-3)


def test_influence_balancing_misleads_truncation_only():
  problem, theta = Influence(truncation=2, length=24), jnp.array([0.0])
  want = problem.gradient(theta)
  assert want > 0.5
  for name, options in [
    ("pes", {}),
    ("nres", {"noise_period": 8}),
    ("es_single", {}),
    ("full_es", {}),
  ]:
    found = per_episode(name, problem, theta, samples=10_000, **options)
    assert errors(found, want) < 4
    assert errors(found, 0.0) > 20
  np.testing.assert_allclose(
    per_episode("full_grad", problem, theta, samples=1)[0], want, rtol=1e-4
  )
  biased = problem.gradient(theta, truncated=True)
  assert biased < -0.5
  found = per_episode("truncated_es", problem, theta, samples=10_000)
  assert errors(found, biased) < 4
  found = per_episode("truncated_grad", problem, theta, samples=1)
  np.testing.assert_allclose(found[0], biased, rtol=1e-4)


STEPS = 8


def square_norm(name, unrolls, **options):
  """Square norm of an episode's estimate: values of 40,000 episodes."""
  problem = Uncorrelated(truncation=STEPS // unrolls, length=STEPS)
  found = per_episode(name, problem, jnp.zeros(3), samples=40_000, **options)
  return np.square(found).sum(axis=1)


@pytest.mark.parametrize("unrolls", [2, 8])
def test_variance_grows_with_truncations_for_pes_only(unrolls):
  d = Uncorrelated.num_theta

  def want(periods):
    return d * (d + 2) / STEPS + d**2 * (periods - 1) / (2 * STEPS)

  assert errors(square_norm("pes", unrolls), want(unrolls)) < 4
  assert errors(square_norm("es_single", unrolls), want(1)) < 4
  half = square_norm("nres", unrolls, noise_period=STEPS // 2)
  assert errors(half, want(2)) < 4


def test_variance_falls_with_pairs():
  d = Uncorrelated.num_theta
  for pairs in (1, 4):
    # Pairs share the batches, whose own variance, d / T, stays.
    want = d / STEPS + (d * (d + 2) - d) / STEPS / pairs
    found = square_norm("full_es", 2, num_pairs=pairs)
    assert errors(found, want) < 4
    found = square_norm("es_single", 2, num_pairs=pairs)
    assert errors(found, want) < 4


@pytest.mark.parametrize(
  "one, other, options",
  [("pes", "nres", {"noise_period": 1}), ("es_single", "nres", {})],
)
def test_special_cases_are_the_same_bit_for_bit(one, other, options):
  results = [
    estimates(
      make_estimator(name, Walk(shortest=1), 2, SIGMA, **given),
      WALK,
      samples=20,
      calls=9,
    )[0]
    for name, given in ((one, {}), (other, options))
  ]
  for a, b in zip(*results, strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("pairs", [1, 3])
@pytest.mark.parametrize("name", ["pes", "nres", "es_single", "truncated_es"])
def test_all_copies_and_the_memory_reset_together(name, pairs):
  problem = Walk(shortest=1)
  estimator = make_estimator(name, problem, 2, SIGMA, num_pairs=pairs)
  keys = jax.random.split(jax.random.key(1), 20)
  state = jax.vmap(estimator.init)(keys)
  estimate = jax.jit(jax.vmap(estimator.estimate, (None, 0, 0)))
  for n in range(7):
    keys = jax.random.split(jax.random.key(n), 20)
    new, _ = estimate(WALK, state, keys)
    over = np.asarray(state.episode.step) + 1 == state.episode.length
    step = np.asarray(new.episode.step)
    np.testing.assert_array_equal(
      step, np.where(over, 0, np.asarray(state.episode.step) + 1)
    )
    same = np.asarray(new.episode.length == state.episode.length)
    assert np.all(over | same) and np.all(over == (step == 0))
    x = np.asarray(new.runs.params)
    assert np.all(x[over] == 1) and x.shape == (20, 2 * pairs)
    # Halves of each pair are apart, and so is each pair from the others.
    apart = np.diff(np.sort(x[~over], axis=1), axis=1)
    assert np.all(apart != 0)
    for kept in new.memory:
      assert np.all(np.asarray(kept)[over] == 0)
      assert np.all(np.asarray(kept)[~over] != 0)
    state = new


@pytest.mark.parametrize("case", ["pes", "nres", "es_single"])
def test_resets_are_accounted_for_in_episodes_of_every_length(case):
  """Calls of whole episodes that follow one another, sorted by length."""
  name, period, options = SMOOTHED[case]
  estimator = make_estimator(name, Walk(shortest=1), 2, SIGMA, **options)
  found, state = estimates(estimator, WALK, samples=20_000, calls=9)
  gradient = np.asarray(found.gradient, np.float64)
  # Of each call: the finished unrolls of its episode, after it. A reset has
  # already happened where it is 0, so the episode's last call is known.
  step = np.asarray(state.episode.step)
  values: dict[int, list[np.ndarray]] = {1: [], 2: [], 3: []}
  begin = np.zeros(len(step), int)
  for call in range(9):
    over = np.flatnonzero(step[:, call] == 0)
    lengths = call + 1 - begin[over]
    for length in values:
      # The first episode has no reset before it, and is tested elsewhere.
      those = over[(lengths == length) & (begin[over] > 0)]
      calls = gradient[those, call + 1 - length : call + 1]
      if len(those):
        values[length].append(calls.mean(axis=1))
    begin[over] = call + 1
  wants = {
    n: Walk(length=n).smoothed(WALK, SIGMA, min(period, n)) for n in values
  }
  for length, parts in values.items():
    mean = np.concatenate(parts)
    assert len(mean) > 10_000
    for other, want in wants.items():
      apart = np.max(errors(mean, want))
      assert apart < 4 if other == length else apart > 6
