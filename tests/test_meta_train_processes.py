"""Several processes: the same theta everywhere, and an orderly end."""

import concurrent.futures
import socket
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_runs

import flt_lopt
from meta_train.engine import between, links, processes
from meta_train.errors import UserError

STEPS = 60


def _groups(size):
  pairs = [socket.socketpair(socket.AF_INET) for _ in range(size - 1)]
  first = processes.Group(0, size, [a for a, _ in pairs])
  others = [processes.Group(n + 1, size, [b]) for n, (_, b) in enumerate(pairs)]
  return [first, *others]


def _socketpair():
  """Returns the two ends of a TCP connection."""
  with socket.create_server(("localhost", 0)) as server:
    one = socket.create_connection(server.getsockname())
    return one, server.accept()[0]


@pytest.fixture
def groups(monkeypatch):
  monkeypatch.setattr(socket, "socketpair", lambda family: _socketpair())
  found = _groups(3)
  yield found
  for group in found:
    group.close()


def _together(groups, function):
  """Calls the function for each group at once; returns by rank."""
  with concurrent.futures.ThreadPoolExecutor(len(groups)) as pool:
    return list(pool.map(function, groups))


def test_what_is_said_arrives_in_order_of_rank(groups):
  def talk(group):
    own = bytes([group.rank]) * (1 + 3_000_000 * group.rank)
    all_parts = group.all_gather(own)
    first = group.gather(own)
    parts = [b"for %d" % rank for rank in range(group.size)]
    given = group.scatter(parts if group.rank == 0 else ())
    hit = [group.any(group.rank == n) for n in (0, 2, 7)]
    return all_parts, first, given, hit, group.share(12)

  results = _together(groups, talk)
  everything = [bytes([n]) * (1 + 3_000_000 * n) for n in range(3)]
  for rank, (parts, first, given, hit, share) in enumerate(results):
    assert parts == everything
    assert first == (everything if rank == 0 else [])
    assert given == b"for %d" % rank
    assert hit == [True, True, False]
    assert share == range(4 * rank, 4 * rank + 4)


def test_arrays_go_out_and_come_back(groups):
  whole = {
    "key": jax.random.split(jax.random.key(3), 6),
    "x": jnp.arange(12.0).reshape(6, 2),
    "flag": jnp.arange(6) % 2 == 0,
  }
  template = jax.eval_shape(lambda: whole)

  def talk(group):
    given = between.hand_out(group, None if group.rank else whole, template)
    back = between.collect(group, given, template)
    rest = between.broadcast(group, None if group.rank else whole, template)
    rows = between.all_gather_rows(group, [np.full((2, 3), group.rank)])
    return given, back, rest, rows

  results = _together(groups, talk)

  def same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
      assert x.dtype == y.dtype
      np.testing.assert_array_equal(_raw(x), _raw(y))

  same(results[0][1], whole)
  for rank, (given, _, rest, rows) in enumerate(results):
    same(given, jax.tree.map(lambda x, n=rank: x[2 * n : 2 * n + 2], whole))
    same(rest, whole)
    np.testing.assert_array_equal(rows[0][:, 0], [0, 0, 1, 1, 2, 2])


def _raw(x):
  is_key = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
  return jax.random.key_data(x) if is_key else x


def test_other_settings_are_refused_by_name_in_all_processes(groups):
  def talk(group):
    sigma = 0.5 if group.rank == 2 else 0.01
    with pytest.raises(UserError) as caught:
      group.agree({"seed": 0, "sigma": sigma})
    group.agree({"seed": 0})
    return str(caught.value)

  for text in _together(groups, talk):
    assert "process 2 was started with other settings" in text
    assert "--sigma=0.5 instead of 0.01" in text and "seed" not in text


def test_a_lost_process_is_named_by_all_others(groups):
  groups[2].close()

  def talk(group):
    try:
      for _ in range(3):
        group.all_gather(b"")
    except processes.LostProcessError as error:
      group.close()  # As the end of a process does.
      return str(error)

  first, second = _together(groups[:2], talk)
  assert "process 2 of 3 has ended" in first and "continues" in first
  assert "process 0 of 3 has ended" in second


def test_silence_is_bounded_and_signs_of_life_are_waited_for(monkeypatch):
  monkeypatch.setattr(links, "SILENT_S", 1.0)
  ours, theirs = _socketpair()
  group = processes.Group(0, 2, [ours])
  start_s = time.monotonic()
  with pytest.raises(processes.LostProcessError, match="process 1 of 2"):
    group.gather(b"")
  assert 0.9 < time.monotonic() - start_s < 10
  group.close()
  theirs.close()
  # A process that is busy for longer than that is waited for.
  ours, theirs = _socketpair()
  busy, waiting = (
    processes.Group(rank, 2, [link]) for rank, link in enumerate((ours, theirs))
  )

  def talk(group):
    if group is busy:
      time.sleep(2.5)
    return group.all_gather(b"%d" % group.rank)

  assert _together([busy, waiting], talk) == [[b"0", b"1"]] * 2
  busy.close()
  waiting.close()


def test_much_is_sent_to_whoever_is_busy(monkeypatch):
  monkeypatch.setattr(links, "SILENT_S", 1.0)
  monkeypatch.setattr(socket, "socketpair", lambda family: _socketpair())
  groups, much = _groups(3), bytes(50_000_000)

  def talk(group):
    if group.rank == 0:
      time.sleep(2.5)
    return [len(part) for part in group.gather(much)], group.any(False)

  whole = [len(much)] * 3
  assert _together(groups, talk) == [(whole, False), *[([], False)] * 2]
  for group in groups:
    group.close()


@pytest.mark.parametrize(
  "arguments, words",
  [
    (("node0", 2, 0), "coordinator_address=node0 is not host:port"),
    (("node0:99999", 2, 0), "is not host:port"),
    (("node0:8476", 2, 2), "process_id=2 must be less than --num_processes=2"),
  ],
)
def test_malformed_addresses_and_numbers_are_refused(arguments, words):
  with pytest.raises(UserError, match=words):
    processes.join(*arguments)


def test_alone_without_a_cluster():
  group = processes.join("", 0, -1)
  assert (group.rank, group.size) == (0, 1)
  assert group.all_gather(b"x") == [b"x"]
  assert processes.join("", 1, -1).size == 1


def _start(folder, port, outer_steps=STEPS, arguments=()):
  """Starts two processes, each in a folder of its own; only 0 may use its."""
  return [
    tiny_runs.Run(
      folder / f"process{rank}",
      f"--outer_steps={outer_steps}",
      f"--coordinator_address=localhost:{port}",
      *("--num_processes=2", f"--process_id={rank}"),
      *arguments,
    )
    for rank in range(2)
  ]


def _four(tmp_path, monkeypatch):
  return tiny_runs.run_here(
    tmp_path / "four", monkeypatch, f"--outer_steps={STEPS}", "--num_devices=4"
  )


def test_one_device_four_devices_and_two_processes_agree(tmp_path, monkeypatch):
  pair = _start(tmp_path / "two", tiny_runs.free_port())
  one, one_rows = tiny_runs.run_here(
    tmp_path / "one", monkeypatch, f"--outer_steps={STEPS}", "--num_devices=1"
  )
  four, four_rows = _four(tmp_path, monkeypatch)
  two, two_rows = pair[0].finish()
  assert pair[1].wait() == 0, pair[1].text()
  # Process 0 alone writes.
  assert not pair[1].folder.exists()
  # The same four shares in the same order.
  np.testing.assert_array_equal(two, four)
  assert two_rows == four_rows
  np.testing.assert_allclose(one, four, rtol=2e-3, atol=2e-4)
  assert len(one_rows) == len(four_rows) == STEPS // 2


def test_weights_to_begin_with_are_those_of_process_0(tmp_path, monkeypatch):
  optimizer = flt_lopt.OptimizerConfig(hidden_units=2, controller="off")
  lopt = flt_lopt.LearnedOptimizer(optimizer)
  theta = lopt.init(jax.random.key(5))
  # Where process 1 is there are others of the same name.
  for folder, tree in (
    ("process0", theta),
    ("process1", lopt.init(jax.random.key(6))),
  ):
    (tmp_path / "two" / folder).mkdir(parents=True)
    file = tmp_path / "two" / folder / "start.safetensors"
    flt_lopt.save(file, optimizer, tree)
  arguments = ("--init_from=start.safetensors",)
  port = tiny_runs.free_port()
  pair = _start(tmp_path / "two", port, STEPS, arguments)
  found, _ = pair[0].finish()
  assert pair[1].wait() == 0, pair[1].text()
  monkeypatch.chdir(tmp_path / "two" / "process0")
  alone, _ = tiny_runs.run_here(
    *(tmp_path / "one", monkeypatch, f"--outer_steps={STEPS}"),
    *("--num_devices=4", *arguments),
  )
  np.testing.assert_array_equal(found, alone)


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_loses_nothing(
  tmp_path, monkeypatch
):
  four, four_rows = _four(tmp_path, monkeypatch)
  for killed in (1, 0):
    pair = _start(tmp_path / "two", tiny_runs.free_port())
    pair[0].wait_for(10 if killed else STEPS - 12)
    pair[killed].send()
    start_s = time.monotonic()
    other = pair[1 - killed]
    assert other.wait(60) == 2, other.text()
    assert time.monotonic() - start_s < 30
    assert f"process {killed} of 2 has ended" in other.text()
    assert "Traceback" not in other.text()
  pair = _start(tmp_path / "two", tiny_runs.free_port())
  resumed, resumed_rows = pair[0].finish()
  assert pair[1].wait() == 0, pair[1].text()
  np.testing.assert_array_equal(resumed, four)
  assert resumed_rows == four_rows
