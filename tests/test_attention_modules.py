"""Haiku modules: they attend, learn, mask, and keep causality."""

import functools

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flt_lopt import attention

WIDTH, LENGTH = 12, 20


def transformed(make):
  """Returns a compiled `init` and `apply`; op by op they take much longer."""
  model = hk.without_apply_rng(
    hk.transform(lambda x, **options: make()(x, **options))
  )
  return hk.Transformed(jax.jit(model.init), jax.jit(model.apply))


def tokens():
  return jax.random.normal(jax.random.key(0), (2, LENGTH, WIDTH))


@pytest.mark.parametrize("causal", [True, False])
def test_performer_masks_and_keeps_causality(causal):
  def make():
    return attention.Performer(
      num_heads=2,
      head_dim=4,
      causal=causal,
      num_features=8,
      encoding="flt",
      encoding_options={"coordinate_scale": 1 / LENGTH},
    )

  x = tokens()
  model = transformed(make)
  params = model.init(jax.random.key(1), x)
  mask = jnp.ones((2, LENGTH), bool).at[:, 15:].set(False)
  out = model.apply(params, x, key_mask=mask)
  assert out.shape == x.shape
  changed = model.apply(params, x.at[:, 15:].add(3.0), key_mask=mask)
  np.testing.assert_array_equal(out[:, :15], changed[:, :15])
  early = model.apply(params, x.at[:, 10:].add(3.0), key_mask=mask)
  same = np.array_equal(out[:, :10], early[:, :10])
  assert same == causal


def test_learned_maps_and_encodings_are_haiku_parameters():
  model = transformed(
    lambda: attention.LinearAttention(
      num_heads=2,
      head_dim=4,
      encoding="flt_lines",
      feature_map="learned",
      num_features=8,
    )
  )
  params = model.init(jax.random.key(1), tokens())["linear_attention"]
  names = {"frequency", "real", "imag"}
  names |= {"feature_map_weight", "feature_map_offset"}
  assert names == set(params)
  assert np.ptp(params["frequency"]) > 0


def test_linear_attention_is_attend_between_projections():
  encoding = attention.make_encoding("alibi", num_heads=2, head_dim=4)
  model = transformed(
    lambda: attention.LinearAttention(
      num_heads=2, head_dim=4, encoding=encoding, causal=True, num_features=8
    )
  )
  x = tokens()
  params = model.init(jax.random.key(1), x)
  out = model.apply(params, x)

  def linear(name, x):
    layer = params[f"linear_attention/{name}"]
    return x @ layer["w"] + layer["b"]

  q, k, v = (
    linear(name, x).reshape(2, LENGTH, 2, 4)
    for name in ("query", "key", "value")
  )
  attend = functools.partial(
    attention.attend, encoding=encoding, causal=True, num_features=8
  )
  inner = jax.jit(attend)(params["linear_attention"], q, k, v)
  expected = linear("output", inner.reshape(2, LENGTH, 8))
  np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)


def test_a_performer_learns_where_the_previous_token_was():
  """Predict the token one step back: position is all that helps."""
  model = transformed(
    lambda: attention.Performer(
      num_heads=2,
      head_dim=8,
      causal=True,
      num_features=16,
      encoding="flt_damped",
    )
  )
  x = jax.random.normal(jax.random.key(0), (16, LENGTH, 8))
  target = jnp.roll(x, 1, axis=1)
  optimizer = optax.adam(3e-3)

  def loss(params):
    out = model.apply(params, x)
    return jnp.mean(jnp.square(out - target)[:, 1:])

  params = model.init(jax.random.key(1), x)

  @jax.jit
  def train(params):
    def step(carry, _):
      params, state = carry
      value, grads = jax.value_and_grad(loss)(params)
      updates, state = optimizer.update(grads, state)
      return (optax.apply_updates(params, updates), state), value

    return jax.lax.scan(step, (params, optimizer.init(params)), length=300)[1]

  values = train(params)
  assert float(values[-1]) < 0.5 * float(values[0])


@pytest.mark.parametrize("encoding", ["posgu", "posgu_lrpe"])
def test_posgu_mixes_tokens_and_gates(encoding):
  model = transformed(lambda: attention.PosGU(num_groups=3, encoding=encoding))
  x = tokens()
  params = model.init(jax.random.key(1), x)
  out = model.apply(params, x)
  assert out.shape == (2, LENGTH, WIDTH // 2)
  np.testing.assert_array_equal(
    model.apply(params, x.at[..., 6:].set(0.0)), 0.0
  )
  grads = jax.jit(jax.grad(lambda p: jnp.sum(model.apply(p, x) ** 2)))(params)
  assert all(np.any(np.asarray(g) != 0) for g in jax.tree.leaves(grads))
  with pytest.raises(ValueError, match="even multiple"):
    wide = transformed(lambda: attention.PosGU(num_groups=4))
    wide.init(jax.random.key(0), x)
