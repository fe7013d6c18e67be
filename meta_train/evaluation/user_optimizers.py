"""A user's own optimizer as a candidate: found, tried, and told by its text.

Rows of an optimizer are kept for as long as it is the same. It counts as the
same while the texts of the module that was named, of that which its factory is
from, and of all modules beside them that these import, are the same (those of
installed packages aren't read), and what a partial function fixes. What a
module reads from elsewhere, such as a file of settings, is not seen.

Names: `user_candidate`.
"""

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp

from meta_train.errors import UserError, closest
from meta_train.evaluation.candidates import Candidate, Variant, free_name
from meta_train.evaluation.definition import (
  digest,
  local_source,
  without_addresses,
)


def user_candidate(
  name: str, taken: Iterable[str] = (), *, num_steps: int = 2000
) -> Candidate:
  """Makes a user's factory of optax transformations a candidate.

  Args:
    name: "module:factory". The factory is called with `num_steps=`, where it
      has such an argument, and else with nothing. Modules in the current
      folder are found. If it has an attribute `eval_params`, that maps (state
      of the optimizer, trained parameters) to those that are measured, as
      schedule-free methods need it.
    taken: names that other candidates have.
    num_steps: what it is tried with.

  Raises:
    UserError: there is no such factory, or it does not make an optax
      transformation.
  """
  factory = _find_factory(name)
  takes_steps = _takes_num_steps(name, factory)

  def make_tx(hyper, num_steps):
    del hyper
    return factory(num_steps=num_steps) if takes_steps else factory()

  try:
    made = make_tx(None, num_steps)
  except Exception as error:
    called = f"num_steps={num_steps}" if takes_steps else "nothing"
    raise UserError(
      f"--optimizer={name} raised {type(error).__name__}: {error}; it was "
      f"called with {called}, and must return an optax transformation"
    ) from error
  if not (callable(getattr(made, "init", None)) and hasattr(made, "update")):
    raise UserError(
      f"--optimizer={name} returned something of type {type(made).__name__}, "
      "without init and update; it must return an optax transformation"
    )
  short = free_name(name.partition(":")[2], taken)
  return Candidate(
    name=short,
    variants=(Variant(short, "user"),),
    make_tx=make_tx,
    hyper=jnp.zeros(1),
    fingerprint=digest(name, _source(name, factory)),
    eval_params=getattr(factory, "eval_params", None),
  )


def _find_factory(name: str) -> Callable[..., Any]:
  module_name, colon, attribute = name.partition(":")
  if not (colon and module_name and attribute):
    raise UserError(
      f"--optimizer={name} must have the form module:factory, such as "
      "my_module:my_optimizer for the function my_optimizer in my_module.py"
    )
  if os.getcwd() not in sys.path:
    sys.path.insert(0, os.getcwd())
  try:
    module = importlib.import_module(module_name)
  except ModuleNotFoundError as error:
    raise UserError(
      f"--optimizer={name} needs a module {error.name!r}, which is neither "
      f"installed nor in {os.getcwd()}"
    ) from error
  except Exception as error:
    raise UserError(
      f"--optimizer={name}: {module_name} can't be imported, "
      f"{type(error).__name__}: {error}"
    ) from error
  if not hasattr(module, attribute):
    public = [each for each in vars(module) if not each.startswith("_")]
    raise UserError(
      f"--optimizer={name}: {module_name} has no function {attribute!r}"
      f"{closest(attribute, public)}"
    )
  found = getattr(module, attribute)
  if not callable(found):
    raise UserError(
      f"--optimizer={name} can't be called, it is of type "
      f"{type(found).__name__}; name a function that returns an optax "
      f"transformation, such as `def make(): return {attribute}`"
    )
  return found


def _takes_num_steps(name: str, factory: Callable[..., Any]) -> bool:
  try:
    parameters = inspect.signature(factory).parameters.values()
  except ValueError as error:
    raise UserError(
      f"--optimizer={name} does not tell its arguments; write a function of "
      "num_steps around it"
    ) from error
  kinds = {each.kind for each in parameters}
  if "num_steps" in {each.name for each in parameters} or (
    inspect.Parameter.VAR_KEYWORD in kinds
  ):
    return True
  needed = [
    each.name
    for each in parameters
    if each.default is inspect.Parameter.empty
    and each.kind is not inspect.Parameter.VAR_POSITIONAL
  ]
  if needed:
    raise UserError(
      f"--optimizer={name} wants {', '.join(needed)}, and all it can be given "
      "is num_steps; write a function of num_steps that fixes the rest"
    )
  return False


def _source(name: str, factory: Callable[..., Any]) -> str:
  """Returns the texts that make a factory, and what is fixed of it."""
  fixed = []
  while isinstance(factory, functools.partial):
    fixed.append(repr([factory.args, sorted(factory.keywords.items())]))
    factory = factory.func
  kind = factory if hasattr(factory, "__name__") else type(factory)
  named = sys.modules[name.partition(":")[0]]
  texts = local_source(named, inspect.getmodule(kind))
  return without_addresses("".join([texts, *fixed]))
