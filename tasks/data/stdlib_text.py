"""Real text that comes with every Python: no download, no extra package.

`python_topics` is the language reference as `help()` prints it (English
prose), `python_source` the source of pure-Python modules of the standard
library. Each is byte-level, and as `..._bpe` encoded in 512 byte pairs that
were learned on the training stretch of the meta-training part.

Main names: `topics`, `source`.
"""

import functools
import importlib.util
import pathlib

from tasks.data import bpe, tokens
from tasks.data.sources import register

# Long-lived modules of readable code, in fixed order.
_MODULES = (
  "argparse",
  "ast",
  "calendar",
  "collections",
  "configparser",
  "copy",
  "csv",
  "dataclasses",
  "datetime",
  "decimal",
  "difflib",
  "doctest",
  "enum",
  "fractions",
  "functools",
  "heapq",
  "inspect",
  "ipaddress",
  "locale",
  "logging",
  "mailbox",
  "optparse",
  "pathlib",
  "pdb",
  "pickle",
  "pickletools",
  "platform",
  "plistlib",
  "pprint",
  "pydoc",
  "random",
  "shutil",
  "statistics",
  "string",
  "subprocess",
  "tarfile",
  "tempfile",
  "textwrap",
  "threading",
  "tokenize",
  "traceback",
  "turtle",
  "typing",
  "unittest.mock",
  "uuid",
  "warnings",
  "zipfile",
)
_MAX_BYTES = 1 << 20
_BPE_BYTES = 1 << 18
_BPE_VOCABULARY = 512


@functools.cache
def topics() -> bytes:
  """Returns the language reference, topic after topic.

  Raises:
    FileNotFoundError: If this Python came without `pydoc_data`.
  """
  try:
    from pydoc_data import topics as module
  except ImportError as error:
    raise FileNotFoundError(
      "This Python has no pydoc_data.topics, on which the text"
      " 'python_topics' is built; some distributions leave it out. Use"
      " 'python_source', or 'text_file' with a data_dir."
    ) from error
  text = "\n\n".join(module.topics[name] for name in sorted(module.topics))
  return text.encode("utf-8")[:_MAX_BYTES]


@functools.cache
def source() -> bytes:
  """Returns the source of modules of the standard library.

  Raises:
    FileNotFoundError: If this Python came without sources.
  """
  found = b"\n".join(filter(None, map(_module_source, _MODULES)))
  if len(found) < 1 << 17:
    raise FileNotFoundError(
      f"This Python has only {len(found)} bytes of the standard library's"
      " source, on which the text 'python_source' is built. Use"
      " 'python_topics', or 'text_file' with a data_dir."
    )
  return found[:_MAX_BYTES]


def _module_source(name: str) -> bytes | None:
  try:
    spec = importlib.util.find_spec(name)
  except ImportError:
    return None
  if spec is None or not spec.origin or not spec.origin.endswith(".py"):
    return None
  path = pathlib.Path(spec.origin)
  return path.read_bytes() if path.exists() else None


_TEXTS = {"python_topics": topics, "python_source": source}


@functools.cache
def _merges(name: str) -> list[tuple[int, int]]:
  text = tokens.cut(_TEXTS[name](), "meta_train")["train"]
  return bpe.train(text[:_BPE_BYTES], _BPE_VOCABULARY)


def _bytes(
  name: str, part: str, data_dir: str | None = None
) -> tokens.TokenData:
  del data_dir
  return tokens.byte_data(name, part, _TEXTS[name]())


def _pairs(
  name: str, part: str, data_dir: str | None = None
) -> tokens.TokenData:
  del data_dir
  merges = _merges(name)
  # Cut before encoding: both forms of a text have the same parts.
  splits = {
    split: bpe.encode(piece, merges)
    for split, piece in tokens.cut(_TEXTS[name](), part).items()
  }
  return tokens.TokenData(f"{name}_bpe", part, splits, 256 + len(merges))


for _name in _TEXTS:
  register(_name)(functools.partial(_bytes, _name))
  register(f"{_name}_bpe", origin=_name)(functools.partial(_pairs, _name))
