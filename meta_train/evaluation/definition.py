"""What a task is, as a short text that changes when the task does.

It is made of the name, the static choices of the model and the data that are
not the defaults, the family's `revision`, the shapes of parameters, model state
and batches, and what the training loss is measured on, where that is not
training batches. (So a family may get a new option without voiding what was
measured before; whoever changes what it computes counts up its revision.) Of a
task that is not of the zoo the text of its module counts as well. Rows
that were measured under another definition are not compared with new ones.

Main names: `digest`, `definition`, `module_source`, `without_addresses`.
"""

import contextlib
import dataclasses
import hashlib
import inspect
import json
import re
from typing import Any

import jax

_OURS = ("tasks", "meta_train", "flt_lopt")
#: Wrappers around a task, at most.
_DEPTH = 20
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


def module_source(kind: Any) -> str:
  """Returns the text of the module of a class or function.

  Args:
    kind: the class or function.

  Raises:
    OSError: there is no text, as of what is typed by hand.
    TypeError: likewise, as of what is built in.
  """
  return inspect.getsource(inspect.getmodule(kind) or kind)


def _sources(task: Any) -> list[str]:
  """Returns the texts of modules that are not ours and a task is made of."""
  texts, part = [], task
  for _ in range(_DEPTH):
    if type(part).__module__.partition(".")[0] not in _OURS:
      with contextlib.suppress(OSError, TypeError):
        texts.append(module_source(type(part)))
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
