"""BUILD states the sources, the layers and what each stands on: is it true?"""

import ast
import shutil

import build_file
import pytest

# What a layer may need to be imported. The rest is imported where it is used.
JAX_STACK = {
  *("jax", "jaxlib", "optax", "haiku", "chex", "numpy", "jaxtyping"),
  *("safetensors", "absl", "tqdm"),
}


def test_build_is_what_the_imports_say():
  stated = (build_file.ROOT / "BUILD").read_text(encoding="utf-8")
  assert stated == build_file.render(build_file.ROOT), (
    "BUILD does not fit the sources; run python tests/build_file.py"
  )


def test_every_source_is_in_exactly_one_target():
  tree = ast.parse((build_file.ROOT / "BUILD").read_text(encoding="utf-8"))
  listed = [
    source.value
    for call in ast.walk(tree)
    if isinstance(call, ast.Call)
    for field in call.keywords
    if field.arg == "srcs"
    for source in field.value.elts
  ]
  folders = ("flt_lopt", "tasks", "meta_train", "tests")
  files = [f for x in folders for f in build_file.sources(build_file.ROOT, x)]
  assert sorted(listed) == sorted(files)


def test_no_layer_imports_what_it_may_not():
  assert build_file.violations(build_file.ROOT) == []


@pytest.mark.parametrize("layer", list(build_file.LAYERS))
def test_importing_a_layer_needs_the_core_only(layer):
  sources = build_file.sources(build_file.ROOT, build_file.LAYERS[layer].folder)
  known = build_file.sys.stdlib_module_names | JAX_STACK
  known |= {"flt_lopt", "tasks", "meta_train"}
  for source in sources:
    for item in build_file.imports(build_file.ROOT, source):
      top = item.module.split(".")[0]
      assert top in known or not item.at_start, (
        f"{source} imports {top} at its start; import it in the function "
        "that needs it"
      )


@pytest.mark.parametrize(
  "file, line, broken",
  [
    ("flt_lopt/attention/x.py", "import flt_lopt.config", True),
    ("flt_lopt/attention/x.py", "from flt_lopt.attention import y", False),
    ("flt_lopt/attention/x.py", "from .. import config", True),
    ("flt_lopt/x.py", "from flt_lopt import attention", False),
    ("flt_lopt/x.py", "def f():\n  import tasks.base", True),
    ("tasks/x.py", "from flt_lopt import attention", False),
    ("tasks/x.py", "from flt_lopt import config", True),
    ("tasks/x.py", "import flt_lopt", True),
    (
      "tasks/x.py",
      "import importlib as i; i.import_module('meta_train')",
      True,
    ),
    ("meta_train/x.py", "from flt_lopt import config\nimport tasks", False),
  ],
)
def test_a_planted_violation_is_found(tmp_path, file, line, broken):
  for folder in ("flt_lopt", "flt_lopt/attention", "tasks", "meta_train"):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "__init__.py").touch()
  (tmp_path / "flt_lopt" / "config.py").touch()
  (tmp_path / file).write_text(line + "\n")
  assert bool(build_file.violations(tmp_path)) is broken


def test_a_new_source_or_import_changes_build(tmp_path):
  for folder in ("flt_lopt", "tasks", "meta_train"):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "__init__.py").touch()
  shutil.copytree(build_file.ROOT / "tests", tmp_path / "tests")
  before = build_file.render(tmp_path)
  (tmp_path / "tasks" / "new.py").touch()
  assert '"tasks/new.py"' in build_file.render(tmp_path)
  (tmp_path / "tasks" / "new.py").write_text("import sklearn.datasets\n")
  after = build_file.render(tmp_path)
  assert after.count("@pypi//scikit-learn") > before.count(
    "@pypi//scikit-learn"
  )
