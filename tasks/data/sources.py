"""Registry of data sources.

A source is a function of (part, data_dir) that returns a `DataSet`. The
modules of this package register theirs when they are first imported, which
happens at the first look-up. Each (source, part, data_dir) is loaded once.

Main names: `register`, `load`, `list_sources`, `origin`.
"""

import functools
import importlib
from collections.abc import Callable

from tasks import names
from tasks.data.base import DataSet, check_part

Loader = Callable[[str, str | None], DataSet]
_MODULES = (
  "sklearn_sets",
  "photographs",
  "stdlib_text",
  "published",
  "signals",
  "sprites",
  "molecules",
  "languages",
)
_LOADERS: dict[str, Loader] = {}
_ORIGINS: dict[str, str] = {}


def register(
  name: str, *, origin: str | None = None
) -> Callable[[Loader], Loader]:
  """Returns a decorator that registers a loader under `name`.

  Args:
    name: Name of the source.
    origin: Name of another source with the same examples in the same parts,
      only served in another form; `None` if there is none.
  """

  def decorate(loader: Loader) -> Loader:
    if name in _LOADERS:
      raise ValueError(f"The data source {name!r} is registered twice.")
    _LOADERS[name] = loader
    _ORIGINS[name] = origin or name
    return loader

  return decorate


@functools.cache
def _import_all() -> None:
  for module in _MODULES:
    importlib.import_module(f"tasks.data.{module}")


def list_sources() -> tuple[str, ...]:
  """Returns the names of all registered sources."""
  _import_all()
  return tuple(sorted(_LOADERS))


def origin(name: str) -> str:
  """Returns the source whose examples `name` serves, resized or encoded.

  Names that are no sources, those of problems that make their own data,
  stand for themselves.
  """
  _import_all()
  source = name.partition("@")[0]
  return _ORIGINS.get(source, source)


@functools.lru_cache(maxsize=64)
def load(
  name: str, part: str = "meta_train", data_dir: str | None = None
) -> DataSet:
  """Loads one part of a source; the result is kept for the next call.

  Args:
    name: Name of the source, see `list_sources`; `name@8` for its images
      resized to 8 x 8 pixels.
    part: `"meta_train"`, `"validation"` or `"held_out"`.
    data_dir: Folder of files that the user provides; `None` for sources that
      need none.

  Returns:
    The data set.

  Raises:
    ValueError: For an unknown name or part, or damaged files.
    FileNotFoundError: For missing files.
  """
  _import_all()
  source, _, size = name.partition("@")
  if source not in _LOADERS:
    raise names.unknown_name("data source", source, _LOADERS)
  check_part(part)
  data_set = _LOADERS[source](part, data_dir)
  if not size:
    return data_set
  if not size.isdigit() or not 1 <= int(size) <= 64:
    raise ValueError(
      f"The size in {name!r} must be in 1..64 pixels, as in '{source}@8'."
    )
  return data_set.resized(int(size))
