"""Orthogonal random projections with the right distribution.

Rows are grouped in blocks of `dim` orthogonal directions with independent
chi-distributed norms, so each row is N(0, I) and rows of a block repel each
other. Householder QR fixes the sign of R's diagonal, which leaves Q *not*
uniform and positive features biased at every size; multiplying column c of Q
by sign(R_cc) repairs it.
Source: Choromanski et al., Rethinking Attention with Performers, 2021 (the
construction); Mezzadri, How to generate random matrices, 2007 (the sign).

Names: `draw_projection`, `redraw_projection`.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def draw_projection(
  *,
  num_heads: int,
  num_features: int,
  dim: int,
  seed: int,
  orthogonal: bool = True,
  sign_fixed: bool = True,
) -> np.ndarray:
  """Draw float32 `[heads, features, dim]` constants with numpy.

  Args:
    num_heads: independent draws.
    num_features: rows per head.
    dim: width of a row.
    seed: numpy seed; equal seeds give equal constants everywhere.
    orthogonal: `False` draws independent Gaussian rows.
    sign_fixed: `False` keeps the biased QR, to show what it does.
  """
  rng = np.random.default_rng(seed)
  if not orthogonal:
    shape = (num_heads, num_features, dim)
    return rng.standard_normal(shape).astype(np.float32)
  blocks = max(1, math.ceil(num_features / dim))
  gaussian = rng.standard_normal((num_heads, blocks, dim, dim))
  q, r = np.linalg.qr(gaussian)
  if sign_fixed:
    q = q * np.sign(np.einsum("hbii->hbi", r))[:, :, None, :]
  norms = np.linalg.norm(
    rng.standard_normal((num_heads, blocks, dim, dim)), axis=-1
  )
  rows = (q * norms[..., None]).reshape(num_heads, blocks * dim, dim)
  return rows[:, :num_features].astype(np.float32)


@functools.lru_cache(maxsize=64)
def constant_projection(
  num_heads: int, num_features: int, dim: int, seed: int, orthogonal: bool
) -> np.ndarray:
  """Return `draw_projection`, computed once per configuration."""
  return draw_projection(
    num_heads=num_heads,
    num_features=num_features,
    dim=dim,
    seed=seed,
    orthogonal=orthogonal,
  )


def redraw_projection(
  key: jax.Array, *, num_heads: int, num_features: int, dim: int
) -> Float[Array, "heads features dim"]:
  """Draw a sign-fixed orthogonal projection inside a jitted program."""
  blocks = max(1, math.ceil(num_features / dim))
  key_q, key_norm = jax.random.split(key)
  shape = (num_heads, blocks, dim, dim)
  q, r = jnp.linalg.qr(jax.random.normal(key_q, shape))
  q = q * jnp.sign(jnp.einsum("hbii->hbi", r))[:, :, None, :]
  norms = jnp.linalg.norm(jax.random.normal(key_norm, shape), axis=-1)
  rows = (q * norms[..., None]).reshape(num_heads, blocks * dim, dim)
  return rows[:, :num_features]
