"""Sums of attention that can be merged: the algebra under every form.

A partial result over some keys is (top, total, value) with
  total = sum_j e^(log a_tj - top_t),
  value = sum_j e^(log a_tj - top_t) r_tj v_j,
where a is the positive mass and r in [-1, 1] the mask's sign and phase. Two
partial results merge by rescaling to the larger top; no weight ever
overflows, and a row without keys stays at zero.

Names: `Partial`, `dense_partial`, `merge`, `finish`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from flt_lopt.attention.encodings.base import Mask, heads_first
from flt_lopt.attention.numerics import NEGATIVE, einsum


class Partial(NamedTuple):
  """Attention over a part of the keys."""

  top: Float[Array, "*batch heads length"]
  total: Float[Array, "*batch heads length"]
  value: Float[Array, "*batch heads length value"]


def dense_partial(
  log_kernel: Float[Array, "*batch heads length keys"],
  mask: Mask | None,
  v: Float[Array, "*batch heads keys value"],
  allowed: Bool[Array, "..."],
) -> Partial:
  """Attend to keys one by one, through all pairs.

  Args:
    log_kernel: log kappa(q_t, k_j).
    mask: the encoding's mask at the pairs, heads last, or `None`.
    v: values.
    allowed: which pairs count; broadcasts to `log_kernel`.
  """
  logs = log_kernel
  if mask is not None:
    logs = logs + heads_first(mask.log_mass)
    # A mask of 0 is no key at all, even if it is all there is.
    allowed = allowed & (logs > 0.5 * NEGATIVE)
  logs = jnp.where(allowed, logs, NEGATIVE)
  top = jnp.max(jax.lax.stop_gradient(logs), axis=-1, initial=NEGATIVE)
  weight = jnp.where(allowed, jnp.exp(logs - top[..., None]), 0.0)
  total = jnp.sum(weight, axis=-1)
  if mask is not None and mask.ratio is not None:
    weight = weight * heads_first(mask.ratio)
  return Partial(top, total, einsum("...nm,...mv->...nv", weight, v))


def merge(a: Partial, b: Partial) -> Partial:
  """Merge attention over two disjoint sets of keys."""
  top = jnp.maximum(a.top, b.top)
  scale_a = jnp.exp(a.top - top)
  scale_b = jnp.exp(b.top - top)
  return Partial(
    top,
    scale_a * a.total + scale_b * b.total,
    scale_a[..., None] * a.value + scale_b[..., None] * b.value,
  )


def finish(
  partial: Partial, *, normalised: bool = True
) -> Float[Array, "*batch heads length value"]:
  """Return the output: the value over its mass, 0 where there is no key.

  Args:
    partial: attention over all keys.
    normalised: `False` returns the plain sum.
  """
  if not normalised:
    return partial.value * jnp.exp(partial.top)[..., None]
  total = partial.total[..., None]
  return partial.value / jnp.where(total > 0, total, 1.0)
