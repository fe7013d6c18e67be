"""Trains an equinox network with the shipped weights.

A gated recurrent network that adds up the marked numbers of a sequence:
neither the model nor the data was seen in meta-training. Run it as
`python tests/examples/train_equinox.py`; it needs equinox.

Main names: `main`.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

import flt_lopt

NUM_STEPS = 300


class Network(eqx.Module):
  """A GRU over the sequence and a linear layer on its last state."""

  cell: eqx.nn.GRUCell
  last: eqx.nn.Linear

  def __init__(self, key):
    first, second = jax.random.split(key)
    self.cell = eqx.nn.GRUCell(2, 24, key=first)
    self.last = eqx.nn.Linear(24, 1, key=second)

  def __call__(self, sequence):
    state = jnp.zeros(24)
    state, _ = jax.lax.scan(
      lambda state, x: (self.cell(x, state), None), state, sequence
    )
    return self.last(state)[0]


def sample_batch(key):
  """Draws 64 sequences of 8 numbers, some marked; the target is their sum."""
  first, second = jax.random.split(key)
  numbers = jax.random.uniform(first, (64, 8))
  marks = jax.random.bernoulli(second, 0.3, (64, 8))
  return jnp.stack([numbers, marks], axis=-1), (numbers * marks).sum(axis=1)


def main() -> tuple[float, float]:
  """Trains and returns the mean loss of the first and last ten steps."""
  model = Network(jax.random.key(0))
  tx = flt_lopt.flt(num_steps=NUM_STEPS)
  state = tx.init(eqx.filter(model, eqx.is_array))

  @eqx.filter_jit
  def step(model, state, key):
    sequences, sums = sample_batch(key)

    @eqx.filter_value_and_grad
    def loss_fn(model):
      return jnp.mean((jax.vmap(model)(sequences) - sums) ** 2)

    loss, grads = loss_fn(model)
    params = eqx.filter(model, eqx.is_array)
    updates, state = tx.update(grads, state, params)
    return eqx.combine(optax.apply_updates(params, updates), model), state, loss

  losses = []
  for key in jax.random.split(jax.random.key(1), NUM_STEPS):
    model, state, loss = step(model, state, key)
    losses.append(float(loss))
  return sum(losses[:10]) / 10, sum(losses[-10:]) / 10


if __name__ == "__main__":
  print("mean squared error {:.3f} -> {:.3f}".format(*main()))
