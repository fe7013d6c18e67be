"""Validation: what it measures, and how a run chooses by it."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_runs
from jax.flatten_util import ravel_pytree

import flt_lopt
import tasks
from meta_train.command import signals
from meta_train.run import loop, memory_maps, whole
from meta_train.run.validation import FLOOR, MAX_GAIN, Validation, score

LOPT = flt_lopt.LearnedOptimizer(
  flt_lopt.OptimizerConfig(hidden_units=2, controller="off")
)
THETA, UNRAVEL = ravel_pytree(LOPT.init(jax.random.key(0)))


class Bowl(tasks.Task):
  """A parabola far away: the faster the better; too fast is infinite."""

  name = "bowl"

  def init(self, key):
    return {"x": 3.0 + jnp.zeros((3,))}

  def loss(self, params, key, data):
    return jnp.mean(jnp.square(params["x"]))


def _faster(log_factor):
  """Returns theta with steps longer by a factor."""
  tree = UNRAVEL(THETA)
  tree["step"]["log_rate"] = tree["step"]["log_rate"] + log_factor
  return np.asarray(ravel_pytree(tree)[0])


@pytest.fixture(scope="module")
def validation():
  return Validation((Bowl(),), LOPT, UNRAVEL, num_steps=95)


def test_validation_ranks_theta_and_repeats_itself(validation):
  start, fast, faster = (validation.losses(_faster(x)) for x in (0.0, 2.0, 3.0))
  assert validation.names == ("bowl",)
  assert start.shape == (1,) and start > fast > faster
  np.testing.assert_array_equal(validation.losses(_faster(2.0)), fast)
  # The last tenth of 100 steps at the reference's rate, by hand.
  tx = LOPT.reference(num_steps=100)
  task, losses = Bowl(), []
  params = task.init(jax.random.key(0))
  state = tx.init(params)

  @jax.jit
  def step(params, state):
    loss, gradient = jax.value_and_grad(task.loss)(params, None, None)
    updates, state = tx.update(gradient, state, params)
    return jax.tree.map(jnp.add, params, updates), state, loss

  for _ in range(100):
    params, state, loss = step(params, state)
    losses.append(float(loss))
  expected = np.mean(np.log(np.array(losses[-10:]) + FLOOR))
  np.testing.assert_allclose(start, expected, rtol=1e-3)


def test_no_task_makes_up_the_score_alone():
  gains = np.array([-0.5, 0.1, -0.2])
  assert score(gains) == pytest.approx(gains.mean())
  for far in (1e1, 1e9, np.inf):
    assert score(np.array([0.0, far])) == pytest.approx(MAX_GAIN / 2)
    assert score(np.array([0.0, -far])) == pytest.approx(-MAX_GAIN / 2)
  assert np.isnan(score(np.array([0.0, np.nan])))
  # A single task can't outweigh others, and goes on beyond.
  assert score(np.array([-far])) == -far


def test_programs_of_the_validation_go_when_it_is_crowded(
  validation, monkeypatch
):
  expected = validation.losses(THETA)
  monkeypatch.setattr(memory_maps, "is_crowded", lambda: True)
  np.testing.assert_array_equal(validation.losses(THETA), expected)
  assert [p._cache_size() for p in validation._programs] == [0]
  np.testing.assert_array_equal(validation.losses(THETA), expected)


def test_a_diverged_validation_counts_the_largest_loss(validation):
  (worst,) = validation.losses(_faster(200.0))
  assert np.isfinite(worst) and worst > validation.losses(THETA)[0]


def _with_validation(monkeypatch):
  load = whole.load_problems

  def more(config):
    return load(config)._replace(validation=(Bowl(),))

  monkeypatch.setattr(whole, "load_problems", more)


def test_the_best_theta_is_found_kept_and_resumed(tmp_path, monkeypatch):
  _with_validation(monkeypatch)
  flags_ = ("--validate_every=5", "--result=best", "--keep_checkpoints=1")
  # So fast that it gets worse again.
  flags_ += ("--outer_learning_rate=0.5", "--theta_average=0.5")
  whole, rows = tiny_runs.run_on_two(
    tmp_path / "a", monkeypatch, *flags_, "--outer_steps=40"
  )
  run = tmp_path / "a" / "run"
  scores = tiny_runs.rows(run, "validation.jsonl")
  assert [row["outer_step"] for row in scores] == list(range(0, 45, 5))
  assert scores[0]["score"] == 0.0  # Untrained, by definition.
  for row in scores:
    assert row["score"] == score(np.array([row["score/bowl"]]))
  best = min(scores, key=lambda row: row["score"])
  kept = {int(path.stem[5:]) for path in (run / "checkpoints").iterdir()}
  assert kept == {best["outer_step"], 40}
  record = flt_lopt.read_provenance(run / "theta.safetensors")
  assert record["validation"]["score"] == best["score"]
  assert record["validation"]["outer_step"] == best["outer_step"]
  # It is the running average of that moment: a run so short ends with it.
  (tmp_path / "b").mkdir()
  short, _ = tiny_runs.run_on_two(
    *(tmp_path / "b", monkeypatch, *flags_[2:]),
    f"--outer_steps={best['outer_step']}",
  )
  np.testing.assert_array_equal(whole, short)
  # Stopped in between and continued: the same rows and the same best.
  for steps in (12, 23, 40):
    parts, part_rows = tiny_runs.run_on_two(
      tmp_path / "c", monkeypatch, *flags_, f"--outer_steps={steps}"
    )
  np.testing.assert_array_equal(parts, whole)
  later = tiny_runs.rows(tmp_path / "c" / "run", "validation.jsonl")
  assert [row for row in later if row["outer_step"] % 5 == 0] == scores
  del rows, part_rows


def _stop_in_validation(monkeypatch, outer_step):
  """Sends SIGTERM while the scores of that outer step are computed."""
  validate = loop._validate

  def stopped(validation, parts, state, folder):
    if int(state.outer.outer_step) == outer_step:
      signal.raise_signal(signal.SIGTERM)
    return validate(validation, parts, state, folder)

  monkeypatch.setattr(loop, "_validate", stopped)


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("step", [10, 12])
def test_a_stop_in_validation_comes_right_after(tmp_path, monkeypatch, step):
  _with_validation(monkeypatch)
  flags_ = ("--validate_every=5", "--outer_steps=12", "--eval_seeds=2")
  flags_ += ("--evaluate", "--eval_steps=5")
  with monkeypatch.context() as patch:
    _stop_in_validation(patch, step)
    with pytest.raises(signals.Stopped, match=f"outer step {step} is saved"):
      tiny_runs.run_on_two(tmp_path, patch, *flags_)
  run = tmp_path / "run"
  assert not (run / "theta.safetensors").exists()
  scores = tiny_runs.rows(run, "validation.jsonl")
  assert [row["outer_step"] for row in scores] == [5, 10, 12][: step - 8]


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_whoever_asks_before_validation_is_saved_first(tmp_path, monkeypatch):
  _with_validation(monkeypatch)
  flags_ = ("--validate_every=5", "--outer_steps=12", "--result=best")
  whole, _ = tiny_runs.run_on_two(tmp_path / "a", monkeypatch, *flags_)
  wanted = tiny_runs.rows(tmp_path / "a" / "run", "validation.jsonl")
  measure = loop._row
  for step, done in ((10, [0, 5]), (12, [0, 5, 10])):
    with monkeypatch.context() as patch:

      def stopped(outer_step, *rest, at=step):
        if outer_step == at:
          signal.raise_signal(signal.SIGTERM)
        return measure(outer_step, *rest)

      patch.setattr(loop, "_row", stopped)
      with pytest.raises(signals.Stopped, match=f"outer step {step} is saved"):
        tiny_runs.run_on_two(tmp_path / "b", patch, *flags_)
    run = tmp_path / "b" / "run"
    scores = tiny_runs.rows(run, "validation.jsonl")
    assert [row["outer_step"] for row in scores] == done
  parts, _ = tiny_runs.run_on_two(tmp_path / "b", monkeypatch, *flags_)
  np.testing.assert_array_equal(parts, whole)
  assert tiny_runs.rows(run, "validation.jsonl") == wanted


def _with_losses(monkeypatch, *losses):
  """Makes the validation find these, one after the other."""
  _with_validation(monkeypatch)
  left = list(losses)
  monkeypatch.setattr(
    Validation, "losses", lambda self, theta: np.array([left.pop(0)])
  )


BEST = ("--outer_steps=5", "--validate_every=5", "--result=best")


def test_the_best_of_no_scores_is_told(
  tmp_path, monkeypatch, capsys, four_steps
):
  _with_losses(monkeypatch, *[np.nan] * 4)
  tiny_runs.run_on_two(
    tmp_path, monkeypatch, *BEST, f"--init_from={four_steps[1]}"
  )
  assert "there is no validation score" in capsys.readouterr().err


def test_a_run_that_only_gets_worse_has_its_start_for_result(
  tmp_path, monkeypatch, capsys, four_steps
):
  start, _ = tiny_runs.run_on_two(
    tmp_path / "a", monkeypatch, "--outer_steps=0"
  )
  # Untrained, and after five outer steps.
  _with_losses(monkeypatch, 2.0, 2.5)
  found, _ = tiny_runs.run_on_two(tmp_path / "b", monkeypatch, *BEST)
  np.testing.assert_array_equal(found, start)
  told = capsys.readouterr()
  assert "was better than that of the theta which the run began" in told.err
  assert "after outer step 0, validation score +0\n" in told.out
  # Given weights are scored too, and what is better than they are is told.
  file = four_steps[1]
  _with_losses(monkeypatch, 2.0, 1.75, 1.5)
  found, _ = tiny_runs.run_on_two(
    tmp_path / "c", monkeypatch, *BEST, f"--init_from={file}"
  )
  assert np.any(found != four_steps[0])
  told = capsys.readouterr()
  assert "was better" not in told.err
  assert "after outer step 5, validation score -0.5\n" in told.out
  scores = tiny_runs.rows(tmp_path / "c" / "run", "validation.jsonl")
  assert [(row["outer_step"], row["score"]) for row in scores] == [
    (0, -0.25),
    (5, -0.5),
  ]
  record = flt_lopt.read_provenance(tmp_path / "c/run/theta.safetensors")
  assert record["validation"] == {"outer_step": 5, "score": -0.5}
