"""Candidates: fingerprints that change with what is run."""

import jax
import pytest

import flt_lopt
from meta_train.evaluation import candidates
from meta_train.evaluation.candidates import (
  learned_candidate,
  untrained_candidate,
  weights_candidate,
)


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
