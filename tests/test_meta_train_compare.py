"""Comparisons of values of a setting: what they say, refuse, and go on with."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import suite_rows
import tiny_runs

import flt_lopt
from meta_train import compare, evaluate, main, publish, report
from meta_train.command import compare_flags, signals
from meta_train.comparing import children, members, outcomes
from meta_train.errors import UserError
from meta_train.evaluation import row_standings
from meta_train.evaluation.measures import crossed
from meta_train.run import run_folder

TASKS = ("a", "b", "c", "d")


def _standings(losses):
  """Returns results whose final losses are `losses[name][task][seed]`."""
  rows = []
  for name, by_task in losses.items():
    for task, by_seed in zip(TASKS, by_task):
      for seed, loss in enumerate(by_seed):
        row = suite_rows.row(
          task, name, "learned", None, seed, np.full(suite_rows.N, loss)
        )
        rows.append(row)
  return row_standings.of_rows(rows)


def _score(ours, theirs):
  """Scores losses of [meta-seeds, tasks, seeds] against others."""
  named = {f"ours{k}": each for k, each in enumerate(ours)}
  named |= {f"theirs{k}": each for k, each in enumerate(theirs)}
  pairs = [(f"ours{k}", f"theirs{k}") for k in range(len(ours))]
  return outcomes.score(_standings(named), pairs)


@pytest.fixture
def losses():
  rng = np.random.default_rng(0)
  return np.exp(rng.normal(size=(3, len(TASKS), 5)))


def test_the_same_optimizers_are_even(losses):
  found = _score(losses, losses)
  assert tuple(found.loss_ratio) == (1.0, 1.0, 1.0)
  assert tuple(found.won) == (0.5, 0.5, 0.5)
  assert (found.tasks, found.meta_seeds, found.without_ratio) == (4, 3, 0)


def test_half_the_loss_is_a_ratio_of_two(losses):
  found = _score(losses / 2, losses)
  np.testing.assert_allclose(found.loss_ratio, 2.0)
  assert tuple(found.won) == (1.0, 1.0, 1.0)
  back = _score(losses, losses / 2)
  np.testing.assert_allclose(back.loss_ratio, 0.5)
  assert tuple(back.won) == (0.0, 0.0, 0.0)


def test_intervals_cover_the_noise_of_meta_training(losses):
  # One meta-seed makes an optimizer twice as good, the other half as good.
  factor = np.asarray([2.0, 0.5])[:, None, None]
  both = _score(losses[:2] / factor, losses[:2])
  np.testing.assert_allclose(both.loss_ratio[1:], (0.5, 2.0))
  # A single one says nothing of that, however many seeds it is evaluated on.
  single = _score(losses[:1] / 2, losses[:1])
  np.testing.assert_allclose(single.loss_ratio[1:], (2.0, 2.0))


def test_tasks_that_a_run_lacks_or_that_have_no_ratio_are_counted(losses):
  ours, theirs = losses.copy(), losses.copy()
  ours[:, 0] = -1.0
  found = _score(ours, theirs)
  assert (found.tasks, found.without_ratio) == (4, 1)
  np.testing.assert_allclose(found.loss_ratio, 1.0)
  np.testing.assert_allclose(found.won, (1 + 0.5 * 3) / 4)
  found = _score([losses[0], losses[1][:2]], losses[:2])
  assert found.tasks == 2
  assert _score([losses[0][:0]], losses[:1]) is None


def test_draws_are_crossed_and_share_the_meta_seeds_of_all_tasks():
  """Means of a_k + b_ts vary by var(a) / K + var(b) / S, covary by the first.

  10,000 draws: variances are known to 1.4 % of themselves, one in 100 runs is
  farther off than 3 such; the covariance likewise.
  """
  rng = np.random.default_rng(1)
  a, b = rng.normal(size=6), rng.normal(size=(2, 8))
  tasks = [(a[:, None] + b[t])[None] for t in range(2)]
  seen = []

  def statistic(drawn):
    means = np.stack([each[0].mean(-1) for each in drawn])
    seen.append(means)
    return means.mean(0)

  estimate = crossed.bootstrap(tasks, statistic, num_resamples=10_000)
  assert estimate.value == pytest.approx(np.mean(tasks))
  found = np.cov(seen[-1])
  common = a.var() / 6
  for t in range(2):
    assert found[t, t] == pytest.approx(common + b[t].var() / 8, rel=0.06)
  assert found[0, 1] == pytest.approx(common, rel=0.1)
  with pytest.raises(ValueError, match="same meta-seeds"):
    crossed.bootstrap([tasks[0], tasks[1][:, :3]], statistic)


def _members(*arguments):
  return members.make_members(compare_flags.parse(arguments))


def test_each_value_and_seed_is_a_run_with_the_shared_flags():
  found = _members(
    *("--setting=phases", "--values=;step:30,memory", "--folder=somewhere"),
    *("--recipe=standard", "--sigma=0.03", "--nobalance_families"),
  )
  assert [(m.value, m.seed) for m in found] == [
    *(("", 0), ("", 1), ("step:30,memory", 0), ("step:30,memory", 1)),
  ]
  assert [m.name for m in found[1:3]] == ["empty-seed1", "step_30_memory-seed0"]
  for member in found:
    config = member.config
    assert (config.phases, config.seed) == (member.value, member.seed)
    assert (config.sigma, config.task_suite) == (0.03, "mlp8")
    assert not config.evaluate and config.folder == f"somewhere/{member.name}"


def test_a_value_may_have_a_name_and_further_settings():
  found = _members(
    *("--setting=controller", "--folder=somewhere", "--meta_seeds=1"),
    *("--sigma=0.03", "--phases=step"),
    "--values=flt; no encoding: none; lstm --sigma=0.1; "
    "bare: off --phases=step:3,memory --nobalance_families --augment=",
  )
  assert [m.value for m in found] == [
    *("flt", "no encoding", "lstm --sigma=0.1", "bare")
  ]
  assert [m.name for m in found] == [
    *("flt-seed0", "no_encoding-seed0", "lstm_--sigma_0.1-seed0", "bare-seed0")
  ]
  configs = [m.config for m in found]
  assert [c.controller for c in configs] == ["flt", "none", "lstm", "off"]
  assert [c.sigma for c in configs] == [0.03, 0.03, 0.1, 0.03]
  assert [c.phases for c in configs] == [*["step"] * 3, "step:3,memory"]
  assert [c.balance_families for c in configs] == [
    *[configs[0].balance_families] * 3,
    False,
  ]
  assert configs[3].augment == ""


def test_colons_of_values_are_told_from_names():
  found = _members(
    *("--setting=sigma_scale", "--folder=somewhere", "--meta_seeds=1"),
    "--values=controller:0.5,step:2; on: controller:0.3; off:; "
    "step:3 --phases=step: 30,memory",
  )
  assert [m.value for m in found] == [
    *("controller:0.5,step:2", "on", "off", "step:3 --phases=step: 30,memory")
  ]
  assert [m.config.sigma_scale for m in found] == [
    *("controller:0.5,step:2", "controller:0.3", "", "step:3")
  ]
  assert found[3].config.phases == "step: 30,memory"


VARIANTS = ("--setting=variant", "--values=flt_damped,ema")
OWN = ("--task=tiny_task:Tiny",)


@pytest.mark.parametrize(
  ("arguments", "words"),
  [
    ((), "name a setting"),
    (("--setting=varient", "--values=a,b"), "did you mean variant?"),
    (("--setting=seed", "--values=1,2"), "--setting=seed is unknown"),
    (("--setting=variant", "--values=ema"), "give two or more"),
    (("--setting=variant", "--values=ema,ema"), "ema twice"),
    (("--setting=sigma", "--values=0.1,0.10"), "0.1 and 0.10, which are the"),
    (("--setting=sigma", "--values=a: 0.1; a: 0.2"), "a twice"),
    (("--setting=sigma", "--values=0.1; b: 0.1"), "0.1 and b, which are the"),
    (
      ("--setting=variant", "--values=ema; none: flt_damped --controler=off"),
      "'none: flt_damped --controler=off': unknown flag --controler",
    ),
    (
      ("--setting=variant", "--values=ema; flt_damped --eval_steps=3"),
      "--eval_steps is the same for all runs; give it beside",
    ),
    (("--setting=families", "--values=a; A"), "two folders"),
    (
      ("--setting=variant", "--values=ema; flt_damped --seed=3"),
      "--seed is set by the comparison",
    ),
    (
      ("--setting=variant", "--values=ema; flt_damped --variant=linear"),
      "--variant is the setting",
    ),
    (("--setting=families", "--values=a+b,a_b"), "two folders"),
    (("--setting=outer_steps", "--values=1,x"), "=x is not an integer"),
    ((*VARIANTS, "--outer_step=3"), "did you mean --outer_steps?"),
    ((*VARIANTS, "--sigma=0"), "--sigma=0.0 must be greater than 0"),
    ((*VARIANTS, "--meta_seeds=0"), "must be at least 1"),
    ((*VARIANTS, "--variant=ema"), "--variant is the setting"),
    ((*VARIANTS, "--seed=1"), "--seed is set by the comparison"),
    ((*VARIANTS, "--run_dir=x"), "give --folder"),
    ((*VARIANTS, "--noevaluate"), "--evaluate is set by the comparison"),
    ((*VARIANTS, "--folder=a,b"), "has a comma"),
    ((*VARIANTS, "--recipe=standart"), "did you mean standard?"),
    ((*VARIANTS, "--evaluate_on=validation_smal"), "--evaluate_on=validation"),
    ((*VARIANTS, "--eval_tasks=griewanck"), "did you mean griewank?"),
    (
      ("--setting=variant", "--values=flt_damped,eme", *OWN),
      "with --variant=eme: --variant='eme' is unknown",
    ),
    (
      ("--setting=variant", "--values=flt_damped,no_controller", *OWN)
      + ("--phases=controller",),
      "with --variant=no_controller: --phases=controller names 'controller'",
    ),
    (
      ("--setting=memory", "--values=flt; bare: flt --controller=off", *OWN)
      + ("--phases=controller",),
      "with bare: --phases=controller names 'controller'",
    ),
  ],
)
def test_mistakes_are_told_before_anything_starts(
  arguments, words, tmp_path, monkeypatch, capsys
):
  tiny_runs.write_task(tmp_path)
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setattr(children, "run", None)
  assert compare.main(arguments) == 2
  said = capsys.readouterr().err
  assert words in said and said.count("\n") == 1
  assert sorted(x.name for x in tmp_path.iterdir() if x.suffix != "") == [
    "tiny_task.py"
  ]
  assert not (tmp_path / "runs").exists()


class Started:
  """Programs that are started, in this process; so many get to their end."""

  def __init__(self, most=99):
    self.names = []
    self.most = most

  def __call__(self, module, arguments, *, what):
    self.names += [
      x.rpartition("/")[2] for x in arguments if x.startswith("--run_dir=")
    ] or [module]
    if len(self.names) > self.most:
      raise signals.Stopped(signal.SIGTERM)
    program = {"meta_train": main, "meta_train.evaluate": evaluate}[module]
    code = program.main(arguments)
    if code:
      raise UserError(f"{what} ended with {code}")


def test_finished_runs_are_not_done_again_and_all_are_compared(
  tmp_path, monkeypatch, capsys
):
  tiny_runs.write_task(tmp_path)
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  folder = tmp_path / "compared"
  settings = [x for x in tiny_runs.SETTINGS if x != "--noevaluate"]
  command = [*settings, "--outer_steps=4", f"--folder={folder}"]
  command += ["--setting=sigma", "--meta_seeds=1"]
  command += ["--values=0.01; longer: 0.02 --log_every=1"]
  command += ["--eval_tasks=griewank", "--eval_steps=8", "--eval_seeds=2"]

  def start(*more, most=99, code=0):
    started = Started(most)
    monkeypatch.setattr(children, "run", started)
    assert compare.main([*command, *more]) == code, capsys.readouterr().err
    return started.names

  assert start(most=1, code=143) == ["0.01-seed0", "longer-seed0"]
  # What is there can be looked at.
  assert report.main([str(folder)]) == 0
  assert "nothing is evaluated yet" in (folder / "compare.md").read_text()
  assert start() == ["longer-seed0", "meta_train.evaluate"]
  theta = folder / "0.01-seed0" / run_folder.WEIGHTS
  before = theta.stat().st_mtime_ns
  assert start(most=0, code=143) == ["meta_train.evaluate"]
  assert theta.stat().st_mtime_ns == before

  assert report.main([str(folder)]) == 0
  about = json.loads((folder / "compare.json").read_text())
  reference, other = about["results"]
  assert reference["loss_ratio"] is None and other["tasks"] == 1
  ratio = other["loss_ratio"]
  assert 0 < ratio["low"] <= ratio["value"] <= ratio["high"]
  for each in (reference, other):
    (run,) = each["runs"]
    assert run["outer_steps"] == 4 and run["seconds_per_outer_step"] > 0
    assert run["meta_parameters"] == reference["runs"][0]["meta_parameters"]
  text = (folder / "compare.md").read_text()
  assert "There is a single meta-seed, so intervals do not cover" in text
  assert "The budget of every run: 4 outer steps, 96 inner steps" in text
  assert "for: longer, --sigma=0.02 --log_every=1." in text
  assert "Missing" not in text
  assert "sigma" in (folder / "report.html").read_text()

  # Without the runs' folders it is the same.
  kept = tmp_path / "kept"
  assert publish.main([str(folder), str(kept)]) == 0
  assert report.main([str(kept)]) == 0
  for name in ("compare.md", "compare.json"):
    assert (kept / name).read_text() == (folder / name).read_text()
  assert not list(kept.glob("*-seed0")) and not list(kept.rglob("kernels-*"))
  assert str(tmp_path) not in (kept / "evaluation/evaluation.json").read_text()

  # Whatever would be refused later is refused now, and nothing is touched.
  capsys.readouterr()
  for more, words in (
    (("--setting=log_floor",), "comparison of --setting=sigma"),
    (("--num_tasks=8",), "begun with other settings: --num_tasks=8"),
    (("--num_tasks=8",), "name another --folder"),
    (("--eval_steps=9",), "num_steps=8, not 9"),
    ((f"--folder={folder / '0.01-seed0'}",), "and no comparison"),
  ):
    assert start(*more, code=2) == []
    assert words in capsys.readouterr().err
  assert json.loads((folder / "compare.json").read_text()) == about

  config = _members(*command)[0].config
  assert run_folder.is_finished(config)
  for change in ({"outer_steps": 5}, {"sigma": 0.5}, {"run_dir": "nowhere"}):
    assert not run_folder.is_finished(dataclasses.replace(config, **change))
  # A run is finished too if a setting came after it, and has its default.
  made_by = flt_lopt.read_provenance(theta)
  settings = {k: x for k, x in made_by["settings"].items() if k != "log_floor"}
  monkeypatch.setattr(
    flt_lopt, "read_provenance", lambda _: made_by | {"settings": settings}
  )
  assert run_folder.is_finished(config)


CHILD = """
import pathlib, signal, sys, time
def stop(number, frame):
  pathlib.Path("asked").write_text(str(number))
  sys.exit(128 + number)
signal.signal(signal.SIGTERM, stop)
pathlib.Path("ready").touch()
code = int(sys.argv[1])
time.sleep(60 if code < 0 else 0)
sys.exit(code)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_whoever_stops_the_comparison_stops_the_run(
  number, tmp_path, monkeypatch
):
  (tmp_path / "child_of_test.py").write_text(CHILD)
  monkeypatch.chdir(tmp_path)

  def interrupt():
    while not (tmp_path / "ready").exists():
      time.sleep(0.01)
    os.kill(os.getpid(), number)

  watcher = threading.Thread(target=interrupt)
  watcher.start()
  old = signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    with pytest.raises(signals.Stopped) as caught:
      children.run("child_of_test", ["-1"], what="the child")
  finally:
    signal.signal(signal.SIGINT, old)
  watcher.join()
  assert caught.value.code == 128 + number
  assert (tmp_path / "asked").read_text() == str(int(signal.SIGTERM))


def test_a_run_that_fails_ends_the_comparison(tmp_path, monkeypatch):
  (tmp_path / "child_of_test.py").write_text(CHILD)
  monkeypatch.chdir(tmp_path)
  with pytest.raises(UserError, match="the child ended with exit code 3"):
    children.run("child_of_test", ["3"], what="the child")
  children.run("child_of_test", ["0"], what="the child")


def test_help_starts_without_jax():
  program = "import sys; from meta_train import compare; "
  program += "compare.main(['--help']); print('jax' in sys.modules)"
  said = subprocess.run(
    [sys.executable, "-c", program],
    cwd=tiny_runs.ROOT,
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  assert said.rstrip().endswith("False")
  assert "except --run_dir" in said
  assert "default: 2000 inner steps" in " ".join(said.split())
