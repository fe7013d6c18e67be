"""Packaging: requirements, extras, versions and files are what is needed."""

import os
import pathlib
import re
import subprocess
import sys

import build_file
import pytest

import flt_lopt

ROOT = build_file.ROOT
OURS = {"flt_lopt", "tasks", "meta_train"}


@pytest.fixture(scope="module")
def stated():
  """The arguments that setup.py gives to setuptools."""
  setuptools = pytest.importorskip("setuptools")
  given = {}
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(setuptools, "setup", lambda **fields: given.update(fields))
    patch.chdir(ROOT)
    code = (ROOT / "setup.py").read_text(encoding="utf-8")
    names = {"__file__": str(ROOT / "setup.py"), "__name__": "__main__"}
    exec(compile(code, "setup.py", "exec"), names)
  return given


def _names(requirements):
  return {re.match(r"[\w-]+", text)[0].lower() for text in requirements}


def _imported(folder):
  for source in build_file.sources(ROOT, folder):
    for item in build_file.imports(ROOT, source):
      top = item.module.split(".")[0]
      if top not in sys.stdlib_module_names | OURS:
        yield source, build_file.distribution(top).lower(), item.at_start


def test_whatever_is_imported_is_required(stated):
  core = _names(stated["install_requires"])
  extras = stated["extras_require"]
  optional = core | _names(extras["all"] + extras["learned_optimization"])
  for folder in sorted(OURS):
    for source, name, at_start in _imported(folder):
      assert name in (core if at_start else optional), f"{source}: {name}"


def test_whatever_tests_import_is_in_the_test_extra(stated):
  known = _names(stated["install_requires"])
  known |= _names(stated["extras_require"]["test"])
  helpers = {path.stem for path in (ROOT / "tests").rglob("*.py")}
  for source, name, _ in _imported("tests"):
    if name not in helpers | {"learned_optimization"}:
      assert name in known, f"{source}: {name}"


def test_whatever_is_required_is_imported(stated):
  used = {name for folder in OURS for _, name, _ in _imported(folder)}
  assert _names(stated["install_requires"]) <= used


def test_requirements_are_well_formed(stated):
  requirements = pytest.importorskip("packaging.requirements")
  lines = [*stated["install_requires"]]
  for extra in stated["extras_require"].values():
    lines += extra
  for line in lines:
    parsed = requirements.Requirement(line)
    assert parsed.url or parsed.specifier, f"{line} states no range"


def test_extras(stated):
  extras = stated["extras_require"]
  assert set(extras) == {
    *("data", "plots", "tensorboard", "orbax", "all"),
    *("test", "dev", "learned_optimization"),
  }
  parts = ("data", "plots", "tensorboard", "orbax")
  assert set(extras["all"]) == {x for part in parts for x in extras[part]}


def test_every_package_is_installed(stated):
  folders = {
    pathlib.PurePath(source).parent.as_posix().replace("/", ".")
    for package in OURS
    for source in build_file.sources(ROOT, package)
  }
  assert set(stated["packages"]) == folders


def test_the_version_is_the_same_everywhere(stated):
  assert stated["version"] == flt_lopt.__version__
  changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
  assert re.search(r"^## (\S+)", changelog, re.M)[1] == flt_lopt.__version__
  citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
  assert f"\nversion: {flt_lopt.__version__}\n" in citation


def test_typing_and_weights_are_shipped(stated):
  for package in OURS:
    assert "py.typed" in stated["package_data"][package]
    assert (ROOT / package / "py.typed").exists()
  for weights in ("pretrained/*.safetensors", "pretrained/README.md"):
    assert weights in stated["package_data"]["flt_lopt"]


_IMPORT = """
import sys, time
import jax, optax, haiku
before = {name.split(".")[0] for name in sys.modules}
start = time.process_time()
import flt_lopt
print(time.process_time() - start)
print(*sorted({name.split(".")[0] for name in sys.modules} - before))
"""


def test_the_optimizer_is_light_to_import(tmp_path):
  done = subprocess.run(
    [sys.executable, "-c", _IMPORT],
    env=os.environ | {"PYTHONPATH": str(ROOT)},
    cwd=tmp_path,
    capture_output=True,
    text=True,
    timeout=120,
    check=True,
  )
  seconds, modules = done.stdout.splitlines()
  # Processor time, so that a busy machine does not matter.
  assert float(seconds) < 0.3
  light = {"flt_lopt", "chex", "toolz", "jaxtyping", "safetensors"}
  assert set(modules.split()) - sys.stdlib_module_names <= light
