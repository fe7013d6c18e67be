"""Type promotion where the caller's own settings forbid it.

Main names: `usual`.
"""

import contextlib

import jax


@contextlib.contextmanager
def usual():
  """Lets code mix dtypes and ranks whatever the caller's jax is set to.

  It is for what we call and haven't written, such as haiku and optax, and for
  what has no use for the caller's settings, such as making meta-parameters.
  """
  with (
    jax.numpy_dtype_promotion("standard"),
    jax.numpy_rank_promotion("allow"),
  ):
    yield
