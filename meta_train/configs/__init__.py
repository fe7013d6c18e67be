"""Named recipes: one file each, with its settings and what they achieve.

A recipe is a module of this package whose `CONFIG` is a `MetaTrainConfig` and
whose docstring states the expected result. `--recipe=NAME` selects it, flags
given beside it win, and a suite with a recipe of its own name uses that one
unasked. To add a recipe is to add a file.

Main names: `get_recipe`, `list_recipes`.
"""

import importlib
import pkgutil

from meta_train import config, errors


def list_recipes() -> tuple[str, ...]:
  """Returns the names of all recipes."""
  names = (module.name for module in pkgutil.iter_modules(__path__))
  return tuple(sorted(name for name in names if not name.startswith("_")))


def get_recipe(name: str) -> config.MetaTrainConfig:
  """Returns the settings of a recipe.

  Args:
    name: one of `list_recipes()`.

  Raises:
    UserError: the name is unknown; the text lists the known ones.
  """
  errors.check_choice("recipe", name, list_recipes())
  return importlib.import_module(f"{__name__}.{name}").CONFIG
