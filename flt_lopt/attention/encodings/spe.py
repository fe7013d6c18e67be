"""Stochastic positional encoding: what sineSPE and convSPE share.

Each feature d of queries and keys is multiplied by random processes of the
position, Q_d(t) and K_d(j), with E[Q_d(t) K_d(j)] = P_d(t - j), in R
realisations. The dot product over realisations estimates
  logit_tj = sum_d q_td k_jd P_d(t - j) / sqrt(D).
A gate g mixes in position-free noise: P_d -> g_d P_d + 1 - g_d. The
realisations are fixed, so the error, of order 1 / sqrt(R), is a fixed bias.
Source: Liutkus et al., Relative Positional Encoding for Transformers with
Linear Complexity, 2021.

Names: `StochasticEncoding`.
"""

from __future__ import annotations

import abc
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from flt_lopt.attention.encodings.base import (
  Encoding,
  Params,
  pairwise_lags,
)
from flt_lopt.attention.numerics import einsum


@dataclasses.dataclass(frozen=True, kw_only=True)
class StochasticEncoding(Encoding):
  """Base of the SPE family.

  Args:
    num_realisations: R, the width of encoded queries and keys.
    gated: learn a gate per head and feature, starting at 1/2.
    seed: numpy seed of the noise.
  """

  num_realisations: int = 64
  gated: bool = True
  seed: int = 0

  @property
  def encoded_dim(self) -> int:
    """Width of encoded queries and keys."""
    return self.num_realisations

  @abc.abstractmethod
  def process(
    self,
    params: Params,
    x: Float[Array, "*batch heads length dim"],
    positions: Num[Array, "*batch length coords"],
    *,
    query: bool,
  ) -> Float[Array, "*batch heads length realisations"]:
    """Return sum_d x_d Q_d(t) (or K_d) for every realisation."""

  @abc.abstractmethod
  def position_covariance(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Float[Array, "*shape heads dim"]:
    """Return P_d(lag) without the gate."""

  def init_gate(self) -> Params:
    """Return the gate's parameters, if there is one."""
    if not self.gated:
      return {}
    return {"gate": jnp.zeros((self.num_heads, self.head_dim))}

  def normal(self, *shape: int) -> np.ndarray:
    """Return constant N(0, 1) numbers that depend on seed and shape."""
    rng = np.random.default_rng((self.seed, *shape))
    return rng.standard_normal(shape).astype(np.float32)

  def covariance(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Float[Array, "*shape heads dim"]:
    """Return P_d(lag), gate included."""
    plain = self.position_covariance(params, lags)
    if not self.gated:
      return plain
    gate = jax.nn.sigmoid(params["gate"])
    return gate * plain + 1 - gate

  def _encode(
    self, params: Params, x: Array, positions: Array, *, query: bool
  ) -> Array:
    x = self.scale(x) * self.num_realisations**-0.5
    if not self.gated:
      return self.process(params, x, positions, query=query)
    gate = jax.nn.sigmoid(params["gate"])[:, None, :]
    placed = self.process(params, x * jnp.sqrt(gate), positions, query=query)
    noise = self.normal(self.num_heads, self.head_dim, self.num_realisations)
    free = einsum("...hnd,hdr->...hnr", x * jnp.sqrt(1 - gate), noise)
    return placed + free

  def queries(
    self,
    params: Params,
    q: Float[Array, "*batch heads length dim"],
    positions: Num[Array, "*batch length coords"],
  ) -> Float[Array, "*batch heads length encoded"]:
    """Return the R realisations of encoded queries."""
    return self._encode(params, q, positions, query=True)

  def keys(
    self,
    params: Params,
    k: Float[Array, "*batch heads length dim"],
    positions: Num[Array, "*batch length coords"],
  ) -> Float[Array, "*batch heads length encoded"]:
    """Return the R realisations of encoded keys."""
    return self._encode(params, k, positions, query=False)

  def logits(
    self,
    params: Params,
    q: Float[Array, "*batch heads length dim"],
    k: Float[Array, "*batch heads keys dim"],
    query_positions: Num[Array, "*batch length coords"],
    key_positions: Num[Array, "*batch keys coords"],
  ) -> Float[Array, "*batch heads length keys"]:
    """Return sum_d q_d k_d P_d(lag) / sqrt(D)."""
    lags = pairwise_lags(query_positions, key_positions)
    return einsum(
      "...hnd,...hmd,...nmhd->...hnm",
      self.scale(q),
      self.scale(k),
      self.covariance(params, lags),
    )
