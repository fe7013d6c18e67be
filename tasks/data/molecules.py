"""Clusters of atoms with a known potential energy, without limit.

Atoms sit near the places of a jittered lattice and attract and repel each
other by Morse's potential (P. Morse, 1929) with depths and radii that
depend on the two kinds of atom. Energies are per atom and roughly of unit
variance.

Main names: `molecules`.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from tasks import layers
from tasks.data.generated import choices, register_generator

NUM_ATOMS = 8
NUM_KINDS = 3
_STEEPNESS = 1.5


def energy(
  position: Float[Array, "*batch atoms 3"],
  kind: Int[Array, "*batch atoms"],
  seed: int,
) -> Float[Array, "*batch"]:
  """Sums Morse's potential `D ((1 - exp(-a (r - r0)))^2 - 1)` over pairs.

  Args:
    position: Places of the atoms.
    kind: Their kinds, below `NUM_KINDS`.
    seed: Seed of depths and radii.

  Returns:
    Energy per atom.
  """
  chosen = choices(seed)
  depth = _symmetric(chosen.uniform(0.5, 1.5, (NUM_KINDS, NUM_KINDS)))
  radius = _symmetric(chosen.uniform(0.9, 1.3, (NUM_KINDS, NUM_KINDS)))
  one_hot = jax.nn.one_hot(kind, NUM_KINDS)
  pair = lambda table: jnp.einsum(  # noqa: E731
    "...ak,kl,...bl->...ab", one_hot, table, one_hot
  )
  offset = position[..., :, None, :] - position[..., None, :, :]
  distance = jnp.sqrt(jnp.sum(offset**2, axis=-1) + 1e-6)
  well = 1 - jnp.exp(-_STEEPNESS * (distance - pair(radius)))
  # Atoms that overlap shall not outweigh all the rest.
  potential = pair(depth) * jnp.minimum(well**2 - 1, 4.0)
  others = 1 - jnp.eye(position.shape[-2])
  total = 0.5 * jnp.sum(others * potential, axis=(-1, -2))
  return total / position.shape[-2]


def _symmetric(table: np.ndarray) -> np.ndarray:
  return ((table + table.T) / 2).astype(np.float32)


@register_generator("molecules")
def molecules(
  key: PRNGKeyArray, seed: int, batch_size: int
) -> dict[str, Array]:
  """Clusters: `position` [8, 3], `kind` [8], `energy`."""
  keys = jax.random.split(key, 2)
  corners = np.array(list(itertools.product((0.0, 1.1), repeat=3)), np.float32)
  jitter = 0.2 * layers.normal(keys[0], (batch_size, NUM_ATOMS, 3))
  position = corners - corners.mean(0) + jitter
  kind = jax.random.randint(keys[1], (batch_size, NUM_ATOMS), 0, NUM_KINDS)
  return {
    "position": position,
    "kind": kind,
    "energy": energy(position, kind, seed),
  }
