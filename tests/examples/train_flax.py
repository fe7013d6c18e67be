"""Trains a flax (nnx) network with the shipped weights.

A convolutional network on pictures of random rectangles, whose height it
estimates: neither the model nor the data was seen in meta-training. Run it as
`python tests/examples/train_flax.py`; it needs flax.

Main names: `main`.
"""

import jax
import jax.numpy as jnp
from flax import nnx

import flt_lopt

NUM_STEPS = 200


class Network(nnx.Module):
  """Two convolutions, a mean over the picture, a linear layer."""

  def __init__(self, rngs: nnx.Rngs):
    self.first = nnx.Conv(1, 8, (3, 3), strides=2, rngs=rngs)
    self.second = nnx.Conv(8, 16, (3, 3), strides=2, rngs=rngs)
    self.last = nnx.Linear(16, 1, rngs=rngs)

  def __call__(self, pictures):
    x = nnx.relu(self.first(pictures))
    x = nnx.relu(self.second(x))
    return self.last(x.mean(axis=(1, 2)))[:, 0]


def sample_batch(key):
  """Draws 64 pictures, 12 by 12, of a rectangle; the target is its height."""
  places = jnp.arange(12)
  low, height = jax.random.randint(key, (2, 64, 2), 1, 6)
  inside = (places >= low[..., None]) & (places < (low + height)[..., None])
  pictures = (inside[:, 0, :, None] & inside[:, 1, None, :])[..., None]
  return pictures.astype(jnp.float32), height[:, 0].astype(jnp.float32)


def main() -> tuple[float, float]:
  """Trains and returns the mean loss of the first and last ten steps."""
  model = Network(nnx.Rngs(0))
  optimizer = nnx.Optimizer(
    model, flt_lopt.flt(num_steps=NUM_STEPS), wrt=nnx.Param
  )

  @nnx.jit
  def step(model, optimizer, key):
    pictures, heights = sample_batch(key)

    def loss_fn(model):
      return jnp.mean((model(pictures) - heights) ** 2)

    loss, grads = nnx.value_and_grad(loss_fn)(model)
    optimizer.update(model, grads)
    return loss

  losses = [
    float(step(model, optimizer, key))
    for key in jax.random.split(jax.random.key(1), NUM_STEPS)
  ]
  return sum(losses[:10]) / 10, sum(losses[-10:]) / 10


if __name__ == "__main__":
  print("mean squared error {:.3f} -> {:.3f}".format(*main()))
