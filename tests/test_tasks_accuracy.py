"""Classifiers tell their accuracy where losses are measured, and only there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from meta_train.evaluation import evaluate
from meta_train.evaluation.candidates import Candidate, Variant
from tasks import losses, registry
from tasks.wrapped import WrappedTask

KEY = jax.random.key(0)
CLASSIFIERS = (
  "conv_digits_8_16",
  "graph_communities_24x2",
  "mixer_digits_24x2",
  "mlp_digits_16_tanh",
  "resnet_digits_8x2",
  "rnn_lstm_recall",
  "softmax_iris",
  "transformer_modular",
  "vit_digits_24x2",
)


def test_accuracy_is_the_share_of_labels_that_are_found():
  logits = jnp.asarray([[2.0, 1.0], [0.0, 3.0], [5.0, 4.0], [1.0, 2.0]])
  labels = jnp.asarray([0, 1, 1, 0])
  assert losses.accuracy(logits, labels) == 0.5
  weight = jnp.asarray([1.0, 0.0, 0.0, 1.0])
  assert losses.accuracy(logits, labels, weight) == 0.5
  assert losses.accuracy(logits, labels, 1 - labels) == 0.5
  assert losses.accuracy(logits, labels, jnp.zeros(4)) == 0.0


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_measure_it(name):
  task = registry.task(name)

  def measured(key):
    return task.loss_and_aux(task.init(key), key, task.sample_batch(key))

  loss, aux = jax.eval_shape(measured, KEY)
  assert loss.shape == aux["accuracy"].shape == ()


@pytest.mark.parametrize("name", ["conv_digits_8_16", "mlp_digits_16_tanh"])
def test_training_steps_do_not_compute_it(name):
  task = registry.task(name)
  params = task.init(KEY)

  def flops(function, **options):
    step = jax.value_and_grad(function, **options)
    compiled = jax.jit(step).lower(params, KEY)
    return compiled.compile().cost_analysis()["flops"]

  def plain(params, key):
    batch = task.sample_batch(key)
    logits = task.family.logits(params, batch)
    return losses.softmax_cross_entropy(logits, batch["label"])

  wrapped = WrappedTask(task)
  for loss in (task.loss, wrapped.loss):
    assert flops(lambda p, k, loss=loss: loss(p, k, None)) == flops(plain)
  assert flops(plain) < flops(
    lambda p, k: task.loss_and_aux(p, k, None), has_aux=True
  )
  value, (other, aux) = (
    f(params, KEY, None) for f in (task.loss, task.loss_and_aux)
  )
  np.testing.assert_allclose(value, other, rtol=1e-6)
  assert 0 <= aux["accuracy"] <= 1


def test_an_evaluation_holds_it(tmp_path):
  sgd = Candidate(
    "sgd",
    (Variant("sgd", "user"),),
    lambda hyper, num_steps: optax.sgd(0.3),
    jnp.zeros(1),
    "sgd",
  )
  rows = evaluate.evaluate(
    [registry.task("softmax_iris")],
    [sgd],
    tmp_path / "rows.jsonl",
    num_steps=30,
    num_seeds=2,
    num_final_batches=4,
  )
  for row in rows:
    for split in ("train", "valid"):
      assert row["final"][split]["accuracy"] > 0.6
