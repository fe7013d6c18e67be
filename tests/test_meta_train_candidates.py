"""Candidates: fingerprints that change with what is run, and mistakes told."""

import functools

import jax
import optax
import pytest

import flt_lopt
from meta_train.errors import UserError
from meta_train.evaluation import candidates
from meta_train.evaluation.candidates import (
  learned_candidate,
  untrained_candidate,
  user_candidate,
  weights_candidate,
)


def _module(tmp_path, monkeypatch, name, text):
  (tmp_path / f"{name}.py").write_text(text)
  monkeypatch.syspath_prepend(tmp_path)
  return name


def test_the_untrained_optimizer_leaves_the_trained_one_as_it_is():
  trained = weights_candidate("flt-quick")
  untrained = untrained_candidate(trained)
  assert len(trained.variants) == len(untrained.variants) == 1
  assert trained.variants[0].role == "learned"
  assert untrained.variants[0] == ("flt-quick, untrained", "untrained", None)
  assert untrained.name == "flt-quick, untrained"
  assert untrained.fingerprint != trained.fingerprint
  assert untrained.source is None  # It has no kernels of its own.
  shapes = jax.tree.map(lambda x: x.shape, (trained.hyper, untrained.hyper))
  assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
  ("where", "name"), [(candidates, "FEATURE_SET"), (flt_lopt, "__version__")]
)
def test_another_version_is_another_learned_optimizer(monkeypatch, where, name):
  def fingerprint():
    return learned_candidate(object, {}).fingerprint

  before = fingerprint()
  assert fingerprint() == before
  monkeypatch.setattr(where, name, "another")
  assert fingerprint() != before


def test_a_partial_function_counts_by_what_it_fixes(tmp_path, monkeypatch):
  text = (
    "import functools, optax\n"
    "def make(rate, num_steps): return optax.sgd(rate)\n"
    "slow = functools.partial(make, 0.1)\n"
    "fast = functools.partial(make, rate=0.2)\n"
  )
  module = _module(tmp_path, monkeypatch, "partial_factories", text)
  slow, fast = (user_candidate(f"{module}:{x}") for x in ("slow", "fast"))
  assert slow.name == "slow" and slow.fingerprint != fast.fingerprint

  def source(rate):
    return candidates._source(functools.partial(optax.sgd, rate))

  assert source(0.1) == source(0.1) != source(0.2)
  assert "class partial" not in source(0.1) and "def sgd" in source(0.1)


def test_an_object_counts_by_its_class_and_not_by_its_place():
  class Factory:
    def __call__(self, num_steps):
      return optax.sgd(0.1)

  assert candidates._source(Factory()) == candidates._source(Factory())


def test_a_factory_is_tried_with_the_steps_that_it_will_have():
  make = "own_optimizer:with_warmup"
  assert user_candidate(make, num_steps=300).name == "with_warmup"
  with pytest.raises(UserError, match="called with num_steps=100"):
    user_candidate(make, num_steps=100)


@pytest.mark.parametrize(
  ("text", "says"),
  [
    ("def f(:\n", "SyntaxError"),
    ("raise RuntimeError('no luck')\n", "RuntimeError: no luck"),
    ("f = dict\n", "does not tell its arguments"),
  ],
)
def test_modules_that_are_no_use_are_told(tmp_path, monkeypatch, text, says):
  name = f"useless_{abs(hash(says))}"
  _module(tmp_path, monkeypatch, name, text)
  with pytest.raises(UserError, match=says):
    user_candidate(f"{name}:f")
