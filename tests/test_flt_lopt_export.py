"""The update lowers for every platform, with none of them at hand."""

import jax
import jax.export
import numpy as np
import optimizer_variants as variants
from optimizer_variants import few_variants

PLATFORMS = ("cpu", "cuda", "tpu")


def exported(name, platforms):
  """Returns (exported update on lists of leaves, the leaves)."""
  tx = variants.make(name)
  params = variants.parameters()
  grads = jax.tree.map(lambda x: x[0], variants.stream())
  leaves, structure = jax.tree.flatten((grads, tx.init(params), params))

  def update(*leaves):  # Without our own types, which a file would not know.
    updates, state = tx.update(*jax.tree.unflatten(structure, leaves))
    return jax.tree.leaves((updates, state))

  shapes = [jax.ShapeDtypeStruct(np.shape(x), x.dtype) for x in leaves]
  function = jax.export.export(jax.jit(update), platforms=platforms)(*shapes)
  return function, tx, (grads, tx.init(params), params)


@few_variants
def test_the_update_lowers_for_every_platform(name):
  function, _, _ = exported(name, PLATFORMS)
  assert function.platforms == PLATFORMS
  # What no accelerator could run: calls back into Python.
  assert "callback" not in function.mlir_module()


@few_variants
def test_an_exported_update_is_the_update(name):
  function, tx, arguments = exported(name, PLATFORMS)
  got = jax.jit(function.call)(*jax.tree.leaves(arguments))
  want = jax.tree.leaves(jax.jit(tx.update)(*arguments))
  assert variants.relative_difference(got, want) < 1e-5
