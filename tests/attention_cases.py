"""What the attention tests share: cases by registry, tokens, errors.

Every registered encoding is a case with its default options; further cases
cover modes and options. To register is to be tested.
"""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from flt_lopt import attention

HEADS, DIM, VALUE, LENGTH, BATCH = 2, 8, 5, 24, 2
SCALE = {"coordinate_scale": 1 / 64}

# Options beyond the default ones, or needed for the small sizes of tests.
OPTIONS = {
  "flt": [
    SCALE,
    {**SCALE, "decay": True, "sampling": "gauss_hermite"},
    {**SCALE, "mode": "mask", "sampling": "monte_carlo"},
  ],
  "flt_lines": [{}, {"mode": "mask", "decay": True, "decay_scale": 20.0}],
  "flt_damped": [{}, {"oscillating": False}],
  "flt_local": [SCALE, {**SCALE, "mode": "mask"}],
  "flt_local_exact": [{"window_size": 7}],
  "hype": [{"mu": 0.02}],
  "nprf": [{"max_lag": 20}, {"normalise": False}],
  # Wide enough for an FFT to see past the padding.
  "posgu": [{"coordinate_scale": 0.2}],
  "posgu_lrpe": [{"max_lag": 9}],
  "rope": [{}, {"learned": True}],
  "shaw": [{"max_lag": 9}],
}

CASES = [
  (name, options)
  for name in attention.ENCODINGS.names()
  for options in OPTIONS.get(name, [{}])
]


# Half the compilation time; the programs of these tests run for milliseconds.
QUICK = {
  "xla_backend_optimization_level": 0,
  "xla_llvm_disable_expensive_passes": True,
}

# One case per registered encoding, for the costlier tests.
FIRST_CASES = list({name: (name, o) for name, o in reversed(CASES)}.values())


def case_id(case) -> str:
  """Return a readable test id of a case."""
  name, options = case
  return "-".join([name, *(f"{k}={v}" for k, v in options.items())])


def every(cases, *, quick=()):
  """Return the decorator for tests over cases.

  Args:
    cases: `CASES` or `FIRST_CASES`. Further options of a name are slow tests.
    quick: if given, the names that are not slow tests.
  """
  params = []
  for case in cases:
    slow = case not in FIRST_CASES or (quick and case[0] not in quick)
    marks = [pytest.mark.slow] if slow else []
    params.append(pytest.param(case, id=case_id(case), marks=marks))
  return pytest.mark.parametrize("case", params)


def make(case, **extra) -> attention.Encoding:
  """Build the encoding of a case."""
  name, options = case
  sizes = {"num_heads": HEADS, "head_dim": DIM}
  return attention.make_encoding(name, **{**sizes, **options, **extra})


def feature_map_of(encoding: attention.Encoding) -> str:
  """Return the map to test with: the exact kernel if nothing else goes."""
  return "softmax" if encoding.logits_only else "favor_plus"


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def start(encoding):
  """Return parameters where they start."""
  return encoding.init(jax.random.key(0))


def init(encoding: attention.Encoding, seed: int = 0):
  """Return parameters, moved a little away from where they start."""
  return _init(encoding, seed)


@functools.partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def _init(encoding, seed):
  params = encoding.init(jax.random.key(seed))
  flat, unravel = jax.flatten_util.ravel_pytree(params)
  noise = jax.random.normal(jax.random.key(seed + 1), flat.shape)
  return unravel(flat + 0.05 * noise)


def tokens(seed: int = 0, *, length=LENGTH, batch=(BATCH,), scale=0.7):
  """Return q, k, v of the test sizes."""
  keys = jax.random.split(jax.random.key(seed), 3)
  shape = (*batch, length, HEADS)
  return (
    scale * jax.random.normal(keys[0], (*shape, DIM)),
    scale * jax.random.normal(keys[1], (*shape, DIM)),
    jax.random.normal(keys[2], (*shape, VALUE)),
  )


def relative(a, b) -> float:
  """Return the largest difference over the largest size of b."""
  a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
  return float(np.max(np.abs(a - b)) / np.max(np.abs(b)))


@functools.cache
def compiled(encoding, form, causal, options):
  """Return attention compiled once for all tests that share its shapes."""

  def run(params, q, k, v, key_mask, positions):
    return attention.attend(
      params,
      q,
      k,
      v,
      encoding=encoding,
      form=form,
      causal=causal,
      key_mask=key_mask,
      positions=positions,
      **dict(options),
    )

  return jax.jit(run, compiler_options=QUICK)


def attend(
  encoding,
  params,
  q,
  k,
  v,
  *,
  form,
  causal,
  key_mask=None,
  positions=None,
  **extra,
):
  """Attend with the small feature count of tests, compiled once."""
  options = {
    "num_features": 16,
    "feature_map": feature_map_of(encoding),
    "chunk_size": 8,
    **extra,
  }
  if key_mask is None:
    key_mask = jnp.ones(q.shape[:-2], bool)
  run = compiled(encoding, form, causal, tuple(sorted(options.items())))
  return run(params, q, k, v, key_mask, positions)


def forms_of(encoding: attention.Encoding, *, causal: bool) -> list[str]:
  """Return the linear forms that an encoding has in one direction."""
  forms = encoding.forms - {"dense"}
  if causal:
    return sorted(forms - (set() if encoding.toeplitz else {"parallel"}))
  return sorted(forms & {"parallel"})


def padding(length: int = LENGTH) -> jnp.ndarray:
  """Return a key mask: one full row, one with a hole and a cut tail."""
  index = jnp.arange(length)
  return jnp.stack([index >= 0, (index < length - 5) & (index != 3)])
