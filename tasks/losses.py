"""Losses in forms whose gradients are cheap.

Main names: `softmax_cross_entropy`, `mean_squared_error`,
`sigmoid_cross_entropy`; `accuracy` beside them.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def softmax_cross_entropy(
  logits: Float[Array, "*batch classes"],
  labels: Int[Array, "*batch"],
  weight: Float[Array, "*batch"] | None = None,
) -> Float[Array, ""]:
  """Computes the mean cross-entropy of integer labels.

  `mean(log sum_c exp(z_c) - z_label)` in float32. The label is picked by a
  product with a one-hot vector: the gradient of a gather along classes would
  be a scatter, which is slow on a CPU and batches badly.

  Args:
    logits: Unnormalised log-probabilities.
    labels: Class numbers.
    weight: Weights of the mean; `None` for equal ones.

  Returns:
    The mean over all batch axes, in nats.
  """
  logits = logits.astype(jnp.float32)
  peak = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
  shifted = logits - peak
  classes = jnp.arange(logits.shape[-1], dtype=labels.dtype)
  picked = jnp.where(labels[..., None] == classes, shifted, 0)
  log_mass = jnp.log(jnp.sum(jnp.exp(shifted), axis=-1))
  surprise = log_mass - jnp.sum(picked, axis=-1)
  if weight is None:
    return jnp.mean(surprise)
  return jnp.sum(weight * surprise) / jnp.maximum(jnp.sum(weight), 1e-6)


def accuracy(
  logits: Float[Array, "*batch classes"],
  labels: Int[Array, "*batch"],
  weight: Float[Array, "*batch"] | None = None,
) -> Float[Array, ""]:
  """Computes the share of labels that have the largest logit.

  Args:
    logits: Unnormalised log-probabilities.
    labels: Class numbers.
    weight: Weights of the mean; `None` for equal ones.

  Returns:
    The mean over all batch axes, in [0, 1].
  """
  found = (jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32)
  if weight is None:
    return jnp.mean(found)
  return jnp.sum(weight * found) / jnp.maximum(jnp.sum(weight), 1e-6)


def mean_squared_error(
  prediction: Float[Array, "*shape"], target: Float[Array, "*shape"]
) -> Float[Array, ""]:
  """Computes the mean squared difference in float32."""
  difference = prediction.astype(jnp.float32) - target.astype(jnp.float32)
  return jnp.mean(difference * difference)


def sigmoid_cross_entropy(
  logits: Float[Array, "*shape"], target: Float[Array, "*shape"]
) -> Float[Array, "*shape"]:
  """Computes the elementwise cross-entropy of Bernoulli targets in [0, 1].

  `softplus(z) - z y` in float32.
  """
  logits = logits.astype(jnp.float32)
  return jax.nn.softplus(logits) - logits * target.astype(jnp.float32)
