"""Writes BUILD from the imports: `python tests/build_file.py`.

BUILD names every source file and what it stands on: one library for each
layer, one test target for each test. All of it follows from the files and
their import statements, and so it is written by this program; the rules of
the layers, which follow from nothing, are stated here in `LAYERS`.

Main names: `LAYERS`, `render`, `imports`, `violations`.
"""

import ast
import importlib.util
import pathlib
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Layer(NamedTuple):
  """A layer of the project.

  Attributes:
    folder: where its files are, those of an inner layer excepted.
    may_use: the layers it may import.
    visibility: who may depend on it, in Bazel's words.
    says: one line on what it is.
  """

  folder: str
  may_use: tuple[str, ...]
  visibility: str
  says: str


LAYERS = {
  "attention": Layer(
    "flt_lopt/attention",
    (),
    "//visibility:public",
    "Linear attention with relative positional encodings: the ground floor.",
  ),
  "flt_lopt": Layer(
    "flt_lopt",
    ("attention",),
    "//visibility:public",
    "The learned optimizer. It never imports tasks.",
  ),
  "tasks": Layer(
    "tasks",
    ("attention",),
    "//visibility:public",
    "Inner problems. Of flt_lopt they may use the attention only.",
  ),
  "meta_train": Layer(
    "meta_train",
    ("attention", "flt_lopt", "tasks"),
    "//visibility:private",
    "Meta-training and evaluation. Only tests import it.",
  ),
}

# What is imported under another name than it is installed by.
_INSTALLED_AS = {
  "absl": "absl-py",
  "haiku": "dm-haiku",
  "orbax": "orbax-checkpoint",
  "PIL": "pillow",
  "sklearn": "scikit-learn",
}
# Files that tests read, beside what they import.
_DATA = {
  "tests/test_build_layering.py": ["BUILD"],
  "tests/test_packaging.py": ["CHANGELOG.md", "pyproject.toml", "setup.py"],
  "tests/test_readme.py": ["README.md"],
}
_HEADER = '''"""Every source file and the layers; each stands on those above it.

Written by `python tests/build_file.py`; tests/test_build_layering.py holds it
against the imports.
"""

load("@rules_python//python:defs.bzl", "py_binary", "py_library", "py_test")
'''


class Import(NamedTuple):
  """One imported module.

  Attributes:
    source: the importing file, relative to the root.
    module: the dotted name of the module.
    at_start: whether importing the file imports the module; False inside a
      function or under TYPE_CHECKING.
  """

  source: str
  module: str
  at_start: bool


def sources(root: pathlib.Path, folder: str) -> list[str]:
  """Returns the Python files beneath a folder, relative to the root."""
  files = (root / folder).rglob("*.py")
  return sorted(file.relative_to(root).as_posix() for file in files)


def layer_of(path: str) -> str | None:
  """Returns the innermost layer a file belongs to; None for tests."""
  inside = [
    name
    for name, layer in LAYERS.items()
    if path.startswith(layer.folder + "/")
  ]
  return max(inside, key=lambda name: len(LAYERS[name].folder), default=None)


def imports(root: pathlib.Path, source: str) -> list[Import]:
  """Returns what a file imports, as modules."""
  tree = ast.parse((root / source).read_text(encoding="utf-8"), source)
  late = {
    id(inner)
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.If)
    and not (isinstance(node, ast.If) and not _is_type_checking(node))
    for inner in ast.walk(node)
  }
  return [
    Import(source, module, id(node) not in late)
    for node in ast.walk(tree)
    for module in _modules(root, source, node)
  ]


def violations(root: pathlib.Path) -> list[str]:
  """Returns a sentence for each import that breaks the rules of layers."""
  found = []
  for name, layer in LAYERS.items():
    for source in _layer_sources(root, name):
      for item in imports(root, source):
        used = _layer_of_module(root, item.module)
        if used not in (None, name, *layer.may_use):
          found.append(
            f"{source} imports {item.module}, but {name} may use only: "
            f"{', '.join(layer.may_use) or 'no other layer'}"
          )
  return found


def render(root: pathlib.Path) -> str:
  """Returns the text of BUILD."""
  parts = [_HEADER]
  for name, layer in LAYERS.items():
    files = _layer_sources(root, name)
    data = _package_data(root, name)
    rule = _rule(
      "py_library",
      name=name,
      srcs=[file for file in files if not file.endswith("__main__.py")],
      data=data,
      visibility=[layer.visibility],
      deps=_deps(root, files, own=name),
    )
    parts.append(f"# {layer.says}\n{rule}")
  parts.append(
    _rule(
      "py_binary",
      name="meta_train_main",
      srcs=["meta_train/__main__.py"],
      main=["meta_train/__main__.py"],
      deps=[":meta_train"],
    )
  )
  parts += _test_rules(root)
  return "\n".join(parts)


def _test_rules(root: pathlib.Path) -> Iterator[str]:
  files = sources(root, "tests")
  tests = [f for f in files if pathlib.PurePath(f).name.startswith("test_")]
  support = [f for f in files if f not in tests]
  yield _rule(
    "py_library",
    name="test_support",
    testonly=True,
    srcs=support,
    deps=_deps(root, support, own="test_support"),
  )
  for file in tests:
    deps = {*_deps(root, [file]), ":test_support", "@pypi//pytest"}
    yield _rule(
      "py_test",
      name=pathlib.PurePath(file).stem,
      srcs=[file],
      data=_DATA.get(file, []),
      deps=sorted(deps),
    )


def _layer_sources(root: pathlib.Path, name: str) -> list[str]:
  files = sources(root, LAYERS[name].folder)
  return [file for file in files if layer_of(file) == name]


def _package_data(root: pathlib.Path, name: str) -> list[str]:
  folder = root / LAYERS[name].folder
  files = [*folder.glob("py.typed"), *folder.glob("pretrained/*.safetensors")]
  files += folder.glob("pretrained/README.md")
  return sorted(file.relative_to(root).as_posix() for file in files)


def _deps(root: pathlib.Path, files: Iterable[str], own: str = "") -> list[str]:
  labels = set()
  for file in files:
    for item in imports(root, file):
      layer = _layer_of_module(root, item.module)
      top = item.module.split(".")[0]
      if layer is not None:
        labels.add(f":{layer}")
      elif (root / "tests" / f"{top}.py").exists() or top == "tests":
        labels.add(":test_support")
      elif top not in sys.stdlib_module_names:
        labels.add(f"@pypi//{distribution(top)}")
  return sorted(labels - {f":{own}"})


def distribution(module: str) -> str:
  """Returns the name by which a top-level module is installed."""
  return _INSTALLED_AS.get(module, module)


def _rule(kind: str, **fields: list[str] | str | bool) -> str:
  lines = [f"{kind}("]
  for field, value in fields.items():
    if field == "main":
      value = value[0]  # type: ignore[index]
    if isinstance(value, list):
      if not value:
        continue
      lines.append(f"    {field} = [")
      lines += [f'        "{item}",' for item in value]
      lines.append("    ],")
    else:
      shown = value if isinstance(value, bool) else f'"{value}"'
      lines.append(f"    {field} = {shown},")
  return "\n".join([*lines, ")", ""])


def _modules(root: pathlib.Path, source: str, node: ast.AST) -> Iterator[str]:
  if isinstance(node, ast.Import):
    yield from (alias.name for alias in node.names)
  elif isinstance(node, ast.ImportFrom):
    base = node.module or ""
    if node.level:
      package = pathlib.PurePath(source).parent.as_posix().replace("/", ".")
      base = importlib.util.resolve_name("." * node.level + base, package)
    for alias in node.names:
      whole = f"{base}.{alias.name}"
      yield whole if _file(root, whole) else base
  elif isinstance(node, ast.Call) and _is_import_module(node):
    yield node.args[0].value  # type: ignore[attr-defined]


def _is_import_module(node: ast.Call) -> bool:
  """Tells whether a call is `importlib.import_module("...")`."""
  name = getattr(node.func, "attr", getattr(node.func, "id", ""))
  return (
    name == "import_module"
    and bool(node.args)
    and isinstance(node.args[0], ast.Constant)
  )


def _is_type_checking(node: ast.If) -> bool:
  return "TYPE_CHECKING" in ast.unparse(node.test)


def _file(root: pathlib.Path, module: str) -> str | None:
  path = module.replace(".", "/")
  for file in (f"{path}/__init__.py", f"{path}.py"):
    if (root / file).is_file():
      return file
  return None


def _layer_of_module(root: pathlib.Path, module: str) -> str | None:
  """Returns the layer of a module of ours, or None."""
  if module.split(".")[0] not in {layer.folder for layer in LAYERS.values()}:
    return None
  return layer_of(_file(root, module) or module.replace(".", "/") + "/")


if __name__ == "__main__":
  (ROOT / "BUILD").write_text(render(ROOT), encoding="utf-8")
