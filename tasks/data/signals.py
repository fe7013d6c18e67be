"""Generators of images, signals and targets.

`teacher`: classification by a random network (the student-teacher setting
of Saad and Solla, "On-line learning in soft committee machines", 1995).
`signals`: ten templates, shifted, scaled and noisy, after S. Greydanus,
"Scaling down deep learning" (MNIST-1D, 2020). `sprites`: small shapes at
random places, sizes and colours, as in I. Higgins et al. (dSprites, 2017).
`tones`: recognise the intervals of chords in a short stretch of sound.

Main names: the four generators.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from tasks.data.generated import choices, register_generator

_TEACHER_INPUTS, _TEACHER_HIDDEN, _CLASSES = 32, 64, 10
_SIGNAL_LENGTH, _TEMPLATE_POINTS = 40, 12
_SPRITE = 12
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
  x = jax.random.normal(key, (batch_size, _TEACHER_INPUTS))
  hidden = jnp.tanh(x @ w1 / math.sqrt(_TEACHER_INPUTS))
  return {"x": x, "label": jnp.argmax(hidden @ w2, -1).astype(jnp.int32)}


@register_generator("signals", num_classes=_CLASSES)
def signals(key: PRNGKeyArray, seed: int, batch_size: int) -> dict[str, Array]:
  """Noisy one-dimensional digits: `image` [40, 1, 1]."""
  templates = choices(seed).normal(size=(_CLASSES, _TEMPLATE_POINTS))
  keys = jax.random.split(key, 6)
  label = jax.random.randint(keys[0], (batch_size,), 0, _CLASSES)
  uniform = lambda k, low, high: jax.random.uniform(  # noqa: E731
    k, (batch_size, 1), minval=low, maxval=high
  )
  # Sample the template on a shifted, stretched grid, by linear interpolation.
  grid = jnp.linspace(-0.5, 0.5, _SIGNAL_LENGTH)
  place = (grid * uniform(keys[1], 1.2, 2.0) + uniform(keys[2], 0.4, 0.6)) * (
    _TEMPLATE_POINTS - 1
  )
  left = jnp.clip(jnp.floor(place), 0, _TEMPLATE_POINTS - 2)
  weight = place - left
  points = jnp.asarray(templates, jnp.float32)[label]
  take = lambda i: jnp.take_along_axis(points, i.astype(jnp.int32), 1)  # noqa: E731
  inside = (place >= 0) & (place <= _TEMPLATE_POINTS - 1)
  shape = jnp.where(
    inside, take(left) * (1 - weight) + take(left + 1) * weight, 0
  )
  slope = uniform(keys[3], -0.75, 0.75) * grid
  noise = 0.25 * jax.random.normal(keys[4], shape.shape)
  signal = uniform(keys[5], 0.6, 1.4) * shape + slope + noise
  return {"image": signal[:, :, None, None], "label": label}


@register_generator("sprites", num_classes=6)
def sprites(key: PRNGKeyArray, seed: int, batch_size: int) -> dict[str, Array]:
  """Coloured shapes: `image` [12, 12, 3], `label` the shape, `pose` [3].

  Disc, ring, square, frame, cross, bar; the pose is centre and radius.
  Parts differ in the mixing of colours.
  """
  keys = jax.random.split(key, 5)
  label = jax.random.randint(keys[0], (batch_size,), 0, 6)
  pick = lambda k, low, high: jax.random.uniform(  # noqa: E731
    k, (batch_size, 1, 1), minval=low, maxval=high
  )
  radius = pick(keys[1], 0.25, 0.45)
  centre = jax.random.uniform(keys[2], (batch_size, 2), minval=-0.4, maxval=0.4)
  axis = jnp.linspace(-1, 1, _SPRITE)
  y = jnp.abs(axis[None, :, None] - centre[:, 0, None, None]) / radius
  x = jnp.abs(axis[None, None, :] - centre[:, 1, None, None]) / radius
  disc, square = jnp.sqrt(x * x + y * y), jnp.maximum(x, y)
  distance = jnp.stack(
    [
      disc,
      2 * jnp.abs(disc - 0.75) + 0.5,
      square,
      2 * jnp.abs(square - 0.75) + 0.5,
      jnp.maximum(jnp.minimum(x, y) * 3, square),
      jnp.maximum(3 * y, x),
    ]
  )
  chosen = jnp.sum(
    distance * jax.nn.one_hot(label, 6).T[..., None, None], axis=0
  )
  mask = jax.nn.sigmoid((1 - chosen) * 8)[..., None]
  mixing = choices(seed).uniform(0.1, 1.0, (3, 3)).astype(np.float32)
  colours = jax.random.uniform(keys[3], (batch_size, 2, 3)) @ mixing
  colours = colours / np.sum(mixing, axis=0)
  back = 0.3 * colours[:, 1]
  front = colours[:, 0][:, None, None]
  image = mask * front + (1 - mask) * back[:, None, None]
  noise = 0.02 * jax.random.normal(keys[4], image.shape)
  pose = jnp.concatenate([centre, radius[:, :, 0]], axis=-1)
  return {
    "image": jnp.clip(image + noise, 0, 1),
    "label": label,
    "pose": pose,
  }


@register_generator("tones", num_classes=len(_INTERVALS))
def tones(key: PRNGKeyArray, seed: int, batch_size: int) -> dict[str, Array]:
  """Two tones with overtones: `image` [128, 1, 1]; which interval is it?

  Parts differ in timbre, the strength of five overtones.
  """
  keys = jax.random.split(key, 4)
  overtones = np.arange(1, 6, dtype=np.float32)
  timbre = choices(seed).uniform(size=5).astype(np.float32) / overtones
  label = jax.random.randint(keys[0], (batch_size,), 0, len(_INTERVALS))
  base = jax.random.uniform(keys[1], (batch_size,), minval=110.0, maxval=165.0)
  pitch = jnp.stack(
    [base, base * jnp.asarray(_INTERVALS, jnp.float32)[label]], axis=-1
  )
  time = jnp.arange(_TONE_LENGTH) / _RATE
  phase = jax.random.uniform(keys[2], (batch_size, 2, 5, 1))
  turns = pitch[:, :, None, None] * overtones[:, None] * time + phase
  sound = jnp.sum(
    timbre[:, None] * jnp.sin(2 * jnp.pi * turns), axis=(1, 2)
  ) / np.sum(timbre)
  noise = 0.05 * jax.random.normal(keys[3], sound.shape)
  return {"image": (sound + noise)[:, :, None, None], "label": label}
