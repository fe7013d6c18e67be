"""The watch over memory maps: counts, tells, and makes programs go."""

import jax
import jax.numpy as jnp
import pytest

from meta_train.run import memory_maps


@pytest.fixture
def machine(tmp_path, monkeypatch):
  """A machine with 10 maps in use, and as many as a test says allowed."""
  maps, limit = tmp_path / "maps", tmp_path / "limit"
  maps.write_text("one map\n" * 10)
  monkeypatch.setattr(memory_maps, "_MAPS", maps)
  monkeypatch.setattr(memory_maps, "_LIMIT", limit)
  return limit


@pytest.mark.parametrize(
  ("allowed", "crowded", "told"),
  [("100\n", False, False), ("16\n", True, False), ("11\n", True, True)],
)
def test_it_gets_crowded_before_the_user_is_told(
  machine, allowed, crowded, told
):
  machine.write_text(allowed)
  assert memory_maps.share_used() == pytest.approx(10 / int(allowed))
  assert memory_maps.is_crowded() == crowded
  assert bool(memory_maps.advice()) == told
  if told:
    assert "91 %" in memory_maps.advice()
    assert "sysctl -w vm.max_map_count" in memory_maps.advice()


def test_where_nothing_is_known_nothing_is_said(machine):
  assert memory_maps.share_used() == 0.0  # There is no limit to read.
  machine.write_text("unlimited")
  assert not memory_maps.is_crowded() and not memory_maps.advice()


@pytest.mark.skipif(not memory_maps.share_used(), reason="needs Linux")
def test_a_dropped_program_gives_its_maps_back():
  # A program of many kernels, whose number of maps stands out.
  @jax.jit
  def program(x):
    for k in range(40):
      x = jnp.cumsum(jnp.sin(x + k))[::-1]
    return x

  before = memory_maps.share_used()
  first = program(jnp.ones(1000))
  loaded = memory_maps.share_used()
  assert loaded > before
  memory_maps.drop([program])
  assert memory_maps.share_used() < loaded
  assert jnp.array_equal(program(jnp.ones(1000)), first)
