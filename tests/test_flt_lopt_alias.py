"""`flt` takes weights in every form, and refuses what is none of them."""

import pathlib
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flt_lopt
from flt_lopt import alias

CONFIG = flt_lopt.OptimizerConfig(
  memory="discount", memory_floats=2, direction="off", controller="off"
)


def theta(rate):
  """Returns meta-parameters with a learned step size."""
  made = flt_lopt.LearnedOptimizer(CONFIG).init(jax.random.key(0))
  return {**made, "step": {**made["step"], "log_rate": np.float32(rate)}}


def rate_of(weights):
  """Returns the learned step size that weights were saved with."""
  _, found = alias._get(weights)
  return float(found["step"]["log_rate"])


@pytest.mark.parametrize(
  "weights",
  [("a", "b"), (CONFIG,), (CONFIG, {}, 3), None, 3, ["flt-quick"], {}, b"x"],
)
@pytest.mark.parametrize("make", [flt_lopt.flt, flt_lopt.scale_by_flt])
def test_weights_that_are_none_are_refused(make, weights):
  with pytest.raises(ValueError, match=r"must be the name of .*flt-quick"):
    make(weights=weights)


def test_a_pair_a_path_and_a_name_are_weights(tmp_path):
  assert rate_of((CONFIG, theta(1.0))) == 1.0
  path = tmp_path / "theta.safetensors"
  flt_lopt.save(path, CONFIG, theta(2.0))
  assert rate_of(path) == rate_of(str(path)) == 2.0
  assert np.isfinite(rate_of("flt-quick"))
  bare = path.rename(tmp_path / "theta")
  assert rate_of(bare) == 2.0  # A path whatever its name.


def test_a_path_is_read_again_where_it_means_another_file(
  tmp_path, monkeypatch
):
  for number, name in enumerate(("first", "second")):
    folder = tmp_path / name
    folder.mkdir()
    path = folder / "theta.safetensors"
    flt_lopt.save(path, CONFIG, theta(float(number)))
    monkeypatch.chdir(folder)
    for relative in ("theta.safetensors", pathlib.Path("theta.safetensors")):
      assert rate_of(relative) == number
  monkeypatch.chdir(tmp_path)
  with pytest.raises(flt_lopt.WeightsError, match="no weights file"):
    rate_of("theta.safetensors")


def test_a_file_that_was_written_anew_is_read_again(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  flt_lopt.save(tmp_path / "theta.safetensors", CONFIG, theta(1.0))
  assert rate_of("~/theta.safetensors") == 1.0
  flt_lopt.save(tmp_path / "theta.safetensors", CONFIG, theta(2.0))
  assert rate_of("~/theta.safetensors") == 2.0


@pytest.mark.parametrize(
  "rate",
  [
    3e-4,
    np.float32(3e-4),
    jnp.float32(3e-4),
    lambda count: 3e-4,
    optax.warmup_cosine_decay_schedule(0.0, 3e-4, 10, 100),
  ],
)
def test_a_learning_rate_that_was_meant_for_adam_is_warned_of(rate):
  with pytest.warns(UserWarning, match="learning_rate=0.0003 multiplies"):
    flt_lopt.flt(100, learning_rate=rate)


def test_other_learning_rates_are_not_warned_of():
  fading = optax.warmup_cosine_decay_schedule(0.0, 1.0, 10, 100, 1e-4)
  traced = jax.jit(lambda rate: flt_lopt.flt(9, learning_rate=rate).init({})[0])
  with warnings.catch_warnings():
    warnings.simplefilter("error")
    for rate in (1.0, 0.1, 0.0, np.float32(0.5), jnp.float32(0.5), fading):
      flt_lopt.flt(100, learning_rate=rate)
    traced(3e-4)


@pytest.mark.parametrize("value", ["1", "f4", [1.0, 2.0], None, True])
@pytest.mark.parametrize("name", ["learning_rate", "weight_decay"])
def test_what_is_no_number_is_refused(name, value):
  with pytest.raises(ValueError, match=f"{name}=.* must be a number"):
    flt_lopt.flt(100, **{name: value})


@pytest.mark.parametrize(
  ("mask", "says"),
  [
    ({"w": "no", "b": True}, "mask holds 'no'"),
    ({"w": True}, "mask must be a"),
  ],
)
def test_a_mask_that_does_not_fit_is_told_before_the_first_step(mask, says):
  tx = flt_lopt.flt(100, weight_decay=0.5, mask=mask)
  with pytest.raises(ValueError, match=says) as raised:
    tx.init({"w": jnp.ones(2), "b": jnp.ones(2)})
  assert "\n" not in str(raised.value)
