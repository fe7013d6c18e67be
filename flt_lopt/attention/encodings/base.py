"""What a relative positional encoding is: one description for all forms.

With content q_t, k_j, coordinates r_t and lag D = r_t - r_j, an encoding says
  * how it changes queries and keys (`queries`, `keys`): logit mode L
    concatenates a_t . b_j ~ f(D), per-feature mode P transforms;
  * which mask h(D) multiplies the kernel, mode M: as a sum of poles
    (`poles`), from which the recurrent, chunked and parallel forms follow,
    or only as a function of the lag (`mask`), which an FFT can apply;
  * the exact logits that the features estimate (`logits`).
The forms know nothing else about it.

Names: `Encoding`, `Poles`, `Mask`, `ENCODINGS`, `make_encoding`,
`list_encodings`.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from flt_lopt.attention.numerics import cos_sin, einsum, phase
from flt_lopt.attention.registry import Registry

Params = dict[str, Any]

ALL_FORMS = frozenset({"dense", "parallel", "chunked", "recurrent"})


class Poles(NamedTuple):
  """A mask h(D) = Re sum_p c_p exp(-alpha_p . |D| + 2 pi i xi_p . D).

  Real poles (all xi = 0) have `frequency=None` and `imag=None`; they store
  half as much.
  """

  decay: Float[Array, "heads poles coords"]  # alpha >= 0, per unit
  real: Float[Array, "heads poles"]  # Re c
  imag: Float[Array, "heads poles"] | None = None  # Im c
  frequency: Float[Array, "heads poles coords"] | None = None  # xi, turns

  @property
  def log_weight(self) -> Float[Array, "heads poles"]:
    """Return log |c|, smooth and finite at c = 0."""
    square = jnp.square(self.real)
    if self.imag is not None:
      square = square + jnp.square(self.imag)
    return 0.5 * jnp.log(square + 1e-24)

  def log_decay(
    self, lags: Num[Array, "*shape coords"]
  ) -> Float[Array, "*shape heads poles"]:
    """Return -alpha . |lag|."""
    size = jnp.abs(lags).astype(self.decay.dtype)
    return -einsum("...d,hpd->...hp", size, self.decay)

  def turn_query(
    self, positions: Num[Array, "*shape coords"]
  ) -> Float[Array, "*shape heads poles rotation"]:
    """Return the query's factor: its product with the key's is Re(c e^i..)/|c|.

    The last axis has size 1 for real poles, 2 (cos, sin) otherwise.
    """
    unit = jnp.exp(-self.log_weight)
    if self.frequency is None:
      sign = (self.real * unit)[..., None]
      return jnp.broadcast_to(sign, (*positions.shape[:-1], *sign.shape))
    cos, sin = cos_sin(phase(self.frequency, positions))
    a = self.real * unit
    b = jnp.zeros_like(a) if self.imag is None else self.imag * unit
    return jnp.stack([a * cos - b * sin, a * sin + b * cos], axis=-1)

  def turn_key(
    self, positions: Num[Array, "*shape coords"]
  ) -> Float[Array, "*shape heads poles rotation"] | None:
    """Return the key's factor (cos, sin), or `None` for 1 (real poles)."""
    if self.frequency is None:
      return None
    return jnp.stack(cos_sin(phase(self.frequency, positions)), axis=-1)


class Mask(NamedTuple):
  """A mask h = exp(log_mass) * ratio with |ratio| <= 1, heads last.

  The normaliser of attention sums exp(log_mass), never the signed h.
  `ratio=None` means 1: a positive mask.
  """

  log_mass: Float[Array, "*shape heads"]
  ratio: Float[Array, "*shape heads"] | None = None


def poles_to_mask(poles: Poles, lags: Num[Array, "*shape coords"]) -> Mask:
  """Evaluate a sum of poles at lags."""
  logs = poles.log_weight + poles.log_decay(lags)
  log_mass = jax.nn.logsumexp(logs, axis=-1)
  share = jnp.exp(logs - log_mass[..., None])
  # At position 0 the key factor is (1, 0), so only the first part counts.
  turn = poles.turn_query(lags)[..., 0]
  return Mask(log_mass, jnp.sum(share * turn, axis=-1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Encoding(abc.ABC):
  """A relative positional encoding; a frozen, hashable configuration.

  Args:
    num_heads: number of heads; every parameter is per head.
    head_dim: width D of queries and keys.
    coord_dim: number of coordinates of a position.
  """

  num_heads: int
  head_dim: int
  coord_dim: int = 1

  name: ClassVar[str]
  forms: ClassVar[frozenset[str]] = ALL_FORMS
  # What to do instead of a form that is not in `forms`.
  alternative: ClassVar[str] = ""
  # Whether positions must be integers (tables, windows, noise).
  integer_positions: ClassVar[bool] = False
  # Whether only the exact logits exist, not encoded queries and keys.
  logits_only: ClassVar[bool] = False
  # Whether the output is divided by its mass.
  normalised: ClassVar[bool] = True

  def init(self, key: jax.Array) -> Params:
    """Return the learnable parameters, float32."""
    del key
    return {}

  @property
  def encoded_dim(self) -> int:
    """Width of encoded queries and keys, the feature map's input."""
    return self.head_dim

  @property
  def toeplitz(self) -> bool:
    """Whether the parallel form must apply the mask by FFT."""
    return False

  @property
  def window(self) -> int | None:
    """How many tokens causal forms keep, `None` for a sum over the past."""
    return None

  def scale(self, x: Array) -> Array:
    """Scale content by D^(-1/4), so that x . y = q . k / sqrt(D)."""
    return x * self.head_dim**-0.25

  def queries(
    self,
    params: Params,
    q: Float[Array, "*batch heads length dim"],
    positions: Num[Array, "*batch length coords"],
  ) -> Float[Array, "*batch heads length encoded"]:
    """Return encoded queries."""
    del params, positions
    return self.scale(q)

  def keys(
    self,
    params: Params,
    k: Float[Array, "*batch heads length dim"],
    positions: Num[Array, "*batch length coords"],
  ) -> Float[Array, "*batch heads length encoded"]:
    """Return encoded keys."""
    return self.queries(params, k, positions)

  def poles(self, params: Params) -> Poles | None:
    """Return the mask as poles, or `None` for no mask."""
    del params
    return None

  def mask(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Mask | None:
    """Return the mask at lags r_t - r_j, or `None` for no mask."""
    poles = self.poles(params)
    return None if poles is None else poles_to_mask(poles, lags)

  def ideal_mask(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Mask | None:
    """Return the mask that sampling approximates; `mask` if exact."""
    return self.mask(params, lags)

  def bias(
    self, params: Params, lags: Num[Array, "*shape coords"]
  ) -> Float[Array, "*shape heads"] | None:
    """Return the exact f(lag) that the features add to the logits."""
    del params, lags
    return None

  def logits(
    self,
    params: Params,
    q: Float[Array, "*batch heads length dim"],
    k: Float[Array, "*batch heads keys dim"],
    query_positions: Num[Array, "*batch length coords"],
    key_positions: Num[Array, "*batch keys coords"],
  ) -> Float[Array, "*batch heads length keys"]:
    """Return the exact logits that `queries` . `keys` estimates."""
    content = einsum("...nd,...md->...nm", self.scale(q), self.scale(k))
    lags = pairwise_lags(query_positions, key_positions)
    bias = self.bias(params, lags)
    return content if bias is None else content + heads_first(bias)


def pairwise_lags(
  query_positions: Num[Array, "*batch length coords"],
  key_positions: Num[Array, "*batch keys coords"],
) -> Num[Array, "*batch length keys coords"]:
  """Return r_t - r_j for all pairs."""
  return query_positions[..., :, None, :] - key_positions[..., None, :, :]


def heads_first(
  x: Float[Array, "*batch length keys heads"],
) -> Float[Array, "*batch heads length keys"]:
  """Move the heads of a pairwise array in front of the pair axes."""
  return jnp.moveaxis(x, -1, -3)


ENCODINGS: Registry[Encoding] = Registry("encoding")


def make_encoding(name: str, **options: Any) -> Encoding:
  """Build a relative positional encoding by its registry name.

  Args:
    name: see `ENCODINGS.names()`.
    **options: fields of the encoding: always `num_heads`, `head_dim` and
      `coord_dim`, then its own.

  Raises:
    ValueError: unknown name or option; the message lists the valid ones.

  Example:
    >>> encoding = make_encoding("alibi", num_heads=4, head_dim=16)
    >>> params = encoding.init(jax.random.key(0))
  """
  return ENCODINGS.make(name, **options)


def list_encodings(*, form: str | None = None) -> tuple[str, ...]:
  """Return the registered names, sorted.

  Args:
    form: only those that have this form, "recurrent" for those that stream.
  """
  names = ENCODINGS.names()
  if form is None:
    return names
  return tuple(n for n in names if form in ENCODINGS.get(n).forms)
