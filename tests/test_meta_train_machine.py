"""Setting up the machine: devices, and where compiled programs are kept."""

import os
import pathlib
import subprocess
import sys

import jax
import pytest

from meta_train.errors import UserError
from meta_train.run import machine

ROOT = pathlib.Path(__file__).resolve().parent.parent

_PROGRAM = """
import sys
from meta_train.run import machine
count = int(sys.argv[1])
machine.set_up(count, "")
import jax
assert len(machine.devices(count)) == count
print(jax.jit(lambda x: (x * x).sum())(jax.numpy.arange(3.0)))
"""


def test_devices_and_compiled_programs_are_as_asked(tmp_path):
  environment = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("JAX_") and name != "XLA_FLAGS"
  }
  environment |= {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
  # Who tells jax itself may have more devices than cores.
  environment |= {"JAX_NUM_CPU_DEVICES": "4"}
  done = subprocess.run(
    [sys.executable, "-c", _PROGRAM, "3"],
    env=environment | {"JAX_PLATFORMS": "cpu"},
    cwd=tmp_path,
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout == "5.0\n"
  assert any((tmp_path / "flt_lopt" / "xla").iterdir())


def test_no_more_devices_than_there_are():
  count = jax.local_device_count()
  assert machine.devices(0) == jax.local_devices()
  assert len(machine.devices(1)) == 1
  with pytest.raises(UserError, match=rf"--num_devices={count + 1} .*use 0"):
    machine.devices(count + 1)


def test_devices_are_at_most_as_many_as_cores(monkeypatch):
  asked = []
  monkeypatch.setattr(machine, "_set_num_devices", asked.append)
  monkeypatch.setattr(machine, "num_cores", lambda: 6)
  most = max(6, jax.config.jax_num_cpu_devices)
  with pytest.raises(UserError, match=r"--num_devices=500 .*has 6 cores"):
    machine.set_up(500, "off")
  machine.set_up(0, "off")
  assert asked == [most, 6]


@pytest.mark.parametrize(
  "text, cores",
  [
    ("150000 100000\n", 2),
    ("10000 100000\n", 1),
    ("max 100000\n", 1000),
    ("", 1000),
    ("900000000 100000\n", 1000),
  ],
)
def test_a_container_has_the_cores_of_its_quota(
  tmp_path, monkeypatch, text, cores
):
  file = tmp_path / "cpu.max"
  file.write_text(text)
  monkeypatch.setattr(machine, "_CPU_MAX", file)
  monkeypatch.setattr(
    os, "sched_getaffinity", lambda pid: set(range(1000)), raising=False
  )
  assert machine.num_cores() == cores
  file.unlink()
  assert machine.num_cores() == 1000


def test_the_cache_folder(tmp_path, monkeypatch):
  monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  assert machine.cache_folder("") == tmp_path / "flt_lopt" / "xla"
  assert machine.cache_folder("off") is None
  assert machine.cache_folder(str(tmp_path / "a" / "b")) == tmp_path / "a/b"
  (tmp_path / "file").touch()
  with pytest.raises(UserError, match="another folder, or off"):
    machine.cache_folder(str(tmp_path / "file" / "c"))
  # A home that cannot be written costs the cache, not the run.
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
  assert machine.cache_folder("") is None
  monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jax"))
  assert machine.cache_folder("") == tmp_path / "jax"
