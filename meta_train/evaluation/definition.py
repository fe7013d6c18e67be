"""What a task is, as a short text that changes when the task does.

It is made of the name, the static choices of the model and the data that are
not the defaults, the family's `revision`, the shapes of parameters, model state
and batches, and what the training loss is measured on, where that is not
training batches. (So a family may get a new option without voiding what was
measured before; whoever changes what it computes counts up its revision.) Of a
task that is not of the zoo the texts of its module, and of the modules beside
it that this imports, count as well. Rows that were measured under another
definition are not compared with new ones.

Main names: `digest`, `definition`, `local_source`, `without_addresses`.
"""

import dataclasses
import hashlib
import inspect
import json
import pathlib
import re
import sysconfig
import types
from typing import Any

import jax

_OURS = ("tasks", "meta_train", "flt_lopt")
#: Wrappers around a task, at most.
_DEPTH = 20
#: Folders of Python and of installed packages.
_INSTALLED = {
  pathlib.Path(path).resolve()
  for name, path in sysconfig.get_paths().items()
  if name.endswith(("lib", "stdlib"))
}
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def digest(*parts: Any) -> str:
  """Returns 16 hexadecimal digits that depend on all parts.

  Args:
    *parts: anything JSON can hold; other things count by their text.
  """
  text = json.dumps(parts, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def without_addresses(text: str) -> str:
  """Returns a text without the places in memory that `repr` names."""
  return _ADDRESS.sub("", text)


def definition(task: Any) -> str:
  """Returns the digest of a task's definition.

  Args:
    task: a task; see `tasks.base.Task`.
  """
  return digest(
    getattr(task, "name", type(task).__name__),
    sorted(map(str, getattr(task, "data_ids", ()))),
    _choices(task),
    _shapes(task),
    *_measured(task),
    *_sources(task),
  )


def local_source(*modules: types.ModuleType | None) -> str:
  """Returns the texts of modules and of all that they import from beside them.

  Modules of this project, of Python and of installed packages are left out,
  unless they are the given ones; so are modules without a text.

  Args:
    *modules: the modules; `None` is none.
  """
  texts: dict[str, str] = {}
  left = [module for module in modules if module is not None]
  while left:
    module = left.pop()
    if module.__name__ in texts:
      continue
    try:
      texts[module.__name__] = inspect.getsource(module)
    except (OSError, TypeError):
      texts[module.__name__] = ""
    imported = map(inspect.getmodule, vars(module).values())
    left += [each for each in imported if each and _is_local(each)]
  return "".join(texts[name] for name in sorted(texts))


def _is_local(module: types.ModuleType) -> bool:
  """Whether a module is a user's own file."""
  file = getattr(module, "__file__", None)
  if not file or module.__name__.partition(".")[0] in _OURS:
    return False
  return not any(map(pathlib.Path(file).resolve().is_relative_to, _INSTALLED))


def _sources(task: Any) -> list[str]:
  """Returns the texts of modules that are not ours and a task is made of."""
  texts, part = [], task
  for _ in range(_DEPTH):
    if type(part).__module__.partition(".")[0] not in _OURS:
      texts.append(local_source(inspect.getmodule(type(part))))
    inner = getattr(part, "task", None)
    part = getattr(part, "family", None) if inner is None else inner
    if part is None:
      break
  return texts


def _measured(task: Any) -> list[str]:
  split = getattr(task, "measured_split", lambda split: split)("train")
  return [] if split == "train" else [f"measured on {split}"]


def _choices(task: Any) -> list[str]:
  family = getattr(task, "family", None)
  if not dataclasses.is_dataclass(family):
    return [getattr(task, "architecture", "")]
  choices = [type(family).__name__]
  if revision := getattr(family, "revision", 0):
    choices.append(f"revision={revision}")
  for field in dataclasses.fields(family):
    value = getattr(family, field.name)
    if value != field.default:
      choices.append(without_addresses(f"{field.name}={value!r}"))
  return choices


def _shapes(task: Any) -> list[str]:
  key = jax.eval_shape(lambda: jax.random.key(0))
  made = [jax.eval_shape(task.init_with_state, key)]
  if getattr(task, "datasets", None) is None:
    sample_batch = getattr(task, "sample_batch", lambda key: None)
    made.append(jax.eval_shape(sample_batch, key))
  return [
    f"{jax.tree_util.keystr(path)}{leaf.dtype}{leaf.shape}"
    for path, leaf in jax.tree_util.tree_leaves_with_path(made)
  ]
