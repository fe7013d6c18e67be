"""Generators of signals and targets.

`teacher`: classification by a random network (the student-teacher setting
of Saad and Solla, "On-line learning in soft committee machines", 1995).
`signals`: ten templates, shifted, scaled and noisy, after S. Greydanus,
"Scaling down deep learning" (MNIST-1D, 2020). `tones`:
which interval do two tones form?

Main names: the three generators.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks import layers
from tasks.data.generated import choices, register_generator

_TEACHER_INPUTS, _TEACHER_HIDDEN, _CLASSES = 32, 64, 10
_SIGNAL_LENGTH, _TEMPLATE_POINTS = 40, 12
_TONE_LENGTH = 128
_RATE = 4000.0  # Samples per second.
# Ratios of intervals in just intonation: unison ... octave.
_INTERVALS = (1, 16 / 15, 9 / 8, 6 / 5, 5 / 4, 4 / 3, 3 / 2, 5 / 3, 15 / 8, 2)


@register_generator("teacher", num_classes=_CLASSES)
def teacher(key: PRNGKeyArray, seed: int, batch_size: int) -> dict[str, Array]:
  """Normal inputs `x` [32], labelled by a fixed two-layer network."""
  chosen = choices(seed)
  w1 = chosen.normal(size=(_TEACHER_INPUTS, _TEACHER_HIDDEN))
  w2 = chosen.normal(size=(_TEACHER_HIDDEN, _CLASSES))
  w1, w2 = w1.astype(np.float32), w2.astype(np.float32)
  x = layers.normal(key, (batch_size, _TEACHER_INPUTS))
  hidden = jnp.tanh(x @ w1 / math.sqrt(_TEACHER_INPUTS))
  return {"x": x, "label": jnp.argmax(hidden @ w2, -1).astype(jnp.int32)}


@register_generator("signals", num_classes=_CLASSES)
def signals(key: PRNGKeyArray, seed: int, batch_size: int) -> dict[str, Array]:
  """Noisy one-dimensional digits: `image` [40, 1, 1]."""
  templates = choices(seed).normal(size=(_CLASSES, _TEMPLATE_POINTS))
  draw, noise = _draw(key, (batch_size, 5), (batch_size, _SIGNAL_LENGTH))
  stretch, shift, slope, height = (
    low + (high - low) * draw[:, i + 1, None]
    for i, (low, high) in enumerate(
      [(1.2, 2.0), (0.4, 0.6), (-0.75, 0.75), (0.6, 1.4)]
    )
  )
  label = _pick(draw[:, 0], _CLASSES)
  points = jax.nn.one_hot(label, _CLASSES) @ templates.astype(np.float32)
  # Read the template on a shifted, stretched grid, by linear interpolation.
  grid = np.linspace(-0.5, 0.5, _SIGNAL_LENGTH, dtype=np.float32)
  place = (grid * stretch + shift) * (_TEMPLATE_POINTS - 1)
  distance = jnp.abs(place[:, :, None] - np.arange(_TEMPLATE_POINTS))
  shape = jnp.einsum("blt,bt->bl", jnp.maximum(1 - distance, 0), points)
  signal = height * shape + slope * grid + 0.25 * noise
  return {"image": signal[:, :, None, None], "label": label}


@register_generator("tones", num_classes=len(_INTERVALS))
def tones(key: PRNGKeyArray, seed: int, batch_size: int) -> dict[str, Array]:
  """Two tones with overtones: `image` [128, 1, 1]; which interval is it?

  Parts differ in timbre, the strength of five overtones.
  """
  draw, noise = _draw(key, (batch_size, 12), (batch_size, _TONE_LENGTH))
  overtones = np.arange(1, 6, dtype=np.float32)
  timbre = choices(seed).uniform(size=5).astype(np.float32) / overtones
  label = _pick(draw[:, 0], len(_INTERVALS))
  base = 110.0 + 55.0 * draw[:, 1]
  ratio = jax.nn.one_hot(label, len(_INTERVALS)) @ np.asarray(
    _INTERVALS, np.float32
  )
  pitch = jnp.stack([base, base * ratio], axis=-1)
  time = jnp.arange(_TONE_LENGTH) / _RATE
  phase = draw[:, 2:].reshape(-1, 2, 5, 1)
  turns = pitch[:, :, None, None] * overtones[:, None] * time + phase
  sound = jnp.sum(
    timbre[:, None] * jnp.sin(2 * jnp.pi * turns), axis=(1, 2)
  ) / np.sum(timbre)
  return {"image": (sound + 0.05 * noise)[:, :, None, None], "label": label}


def _draw(
  key: PRNGKeyArray, uniform: tuple[int, ...], normal: tuple[int, ...]
) -> tuple[Array, Array]:
  """Draws all of a batch's random numbers in two calls."""
  uniform_key, normal_key = jax.random.split(key)
  return (
    layers.uniform(uniform_key, uniform),
    layers.normal(normal_key, normal),
  )


def _pick(draw: Float[Array, "batch"], num_classes: int) -> Int[Array, "batch"]:
  return jnp.minimum(draw * num_classes, num_classes - 1).astype(jnp.int32)
