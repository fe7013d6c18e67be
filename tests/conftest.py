"""Settings of all tests: four CPU devices and a shared compilation cache.

They are environment variables, set before jax is imported, so that the
programs that tests start have them too. Tests compile much and compute
little, so XLA is told not to optimize, and to generate code by its older
emitters, which are quicker where nothing is optimized, and in one piece, as in
several the older emitters round otherwise. The cache lies in pytest's own cache
folder; `pytest --cache-clear` empties it.
"""

import gc
import os

import pytest


def pytest_configure(config: pytest.Config) -> None:
  os.environ.setdefault("JAX_NUM_CPU_DEVICES", "4")
  os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1",
  )
  cache = getattr(config, "cache", None)
  if cache is not None:
    folder = str(cache.mkdir("compiled"))
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", folder)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")


def pytest_collection_finish() -> None:
  """Spares modules, which stay to the end, every later garbage collection."""
  gc.collect()
  gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
  """Lets `-n auto` start few workers: each holds a jax of its own."""
  return min(4, os.cpu_count() or 1)


@pytest.fixture(scope="session")
def tiny_results(tmp_path_factory):
  """A folder of baseline results; see `tiny_baselines`."""
  import tiny_baselines  # Imports jax, for which settings must have been made.

  folder = tmp_path_factory.mktemp("tiny_results")
  assert len(tiny_baselines.make(folder)) == 2
  return folder


@pytest.fixture
def tiny_copy(tiny_results, tmp_path):
  """The same, to be changed."""
  for path in tiny_results.iterdir():
    (tmp_path / path.name).write_bytes(path.read_bytes())
  return tmp_path


@pytest.fixture(scope="session")
def four_steps(tmp_path_factory):
  """Theta of a run of four outer steps, and the file it is in; keep both."""
  import tiny_runs

  folder = tmp_path_factory.mktemp("four_steps")
  with pytest.MonkeyPatch.context() as patch:
    found, _ = tiny_runs.run_on_two(folder, patch, "--outer_steps=4")
  return found, folder / "run" / "theta.safetensors"
