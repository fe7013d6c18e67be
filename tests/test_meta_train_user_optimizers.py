"""A user's own optimizer: seen when edited, given the loss, mistakes told."""

import dataclasses
import functools
import importlib
import linecache
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from meta_train.errors import UserError
from meta_train.evaluation import user_optimizers
from meta_train.evaluation.evaluate import run_curves
from meta_train.evaluation.updating import update
from meta_train.evaluation.user_optimizers import user_candidate
from tasks import registry


def _module(tmp_path, monkeypatch, name, text):
  (tmp_path / f"{name}.py").write_text(text)
  monkeypatch.syspath_prepend(tmp_path)
  return name


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
    fixed = functools.partial(optax.sgd, rate)
    return user_optimizers._source("optax:fixed", fixed)

  assert source(0.1) == source(0.1) != source(0.2)
  assert "class partial" not in source(0.1) and "def sgd" in source(0.1)


@pytest.mark.parametrize("factory", ["instance", "closure", "helped"])
@pytest.mark.parametrize("edited", ["named", "helper"])
def test_an_edit_of_what_makes_an_optimizer_is_seen(
  tmp_path, monkeypatch, factory, edited
):
  """Also where the factory's class or function is from another module."""
  name = f"named_{factory}_{edited}"
  named = (
    f"from {name}_lib import Tuned, make, own\n"
    "RATE = 1e-3\n"
    "instance, closure, helped = Tuned(RATE), make(RATE), own\n"
  )
  helper = (
    "import optax\n"
    "RATE = 1.0\n"
    "def make(rate): return lambda num_steps: optax.sgd(rate)\n"
    "def own(num_steps): return optax.sgd(RATE)\n"
    "class Tuned:\n"
    "  def __init__(self, rate): self.rate = rate\n"
    "  def __call__(self, num_steps): return optax.sgd(self.rate)\n"
  )

  def fingerprint(**texts):
    for part, text in texts.items():
      _module(tmp_path, monkeypatch, part, text)
      sys.modules.pop(part, None)
    linecache.clearcache()
    importlib.invalidate_caches()
    return user_candidate(f"{name}:{factory}").fingerprint

  lib = f"{name}_lib"
  before = fingerprint(**{lib: helper, name: named})
  assert fingerprint(**{lib: helper, name: named}) == before
  if edited == "named":
    named = named.replace("1e-3", "3e-1")
  else:
    helper = helper.replace("1.0", "2.0")
  assert fingerprint(**{lib: helper, name: named}) != before


def test_the_loss_is_given_to_all_that_take_it():
  def plateau():
    return optax.contrib.reduce_on_plateau(patience=1)

  class Own:
    def init(self, params):
      return ()

    def update(self, updates, state, params, *, value):
      return jax.tree.map(lambda x: value * x, updates), state

  params = {"w": jnp.ones(3)}
  for tx in (
    optax.sgd(0.1),
    plateau(),
    optax.MultiSteps(plateau(), 2),
    optax.MultiSteps(plateau(), 2).gradient_transformation(),
    Own(),
  ):
    loss = jnp.float32(2.0)
    made, _ = update(tx, params, tx.init(params), params, value=loss)
    assert made["w"].shape == (3,)
  assert made["w"][0] == 2.0


def test_a_factory_says_which_parameters_are_measured(tmp_path, monkeypatch):
  text = (
    "import optax\n"
    "def make(): return optax.contrib.schedule_free_sgd(0.1)\n"
    "make.eval_params = optax.contrib.schedule_free_eval_params\n"
  )
  module = _module(tmp_path, monkeypatch, "averaging_factory", text)
  candidate = user_candidate(f"{module}:make")
  curves = run_curves(
    registry.task("quadratic_24_noisy"), candidate, num_steps=5, seeds=[0]
  )
  plain = run_curves(
    registry.task("quadratic_24_noisy"),
    dataclasses.replace(candidate, eval_params=None),
    num_steps=5,
    seeds=[0],
  )
  assert np.array_equal(curves.losses, plain.losses)
  averaged, trained = curves.final["train"], plain.final["train"]
  assert not np.allclose(averaged["loss"], trained["loss"])


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
