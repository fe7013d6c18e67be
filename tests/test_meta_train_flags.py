"""The command line: what it accepts, and what it says about mistakes."""

import dataclasses
import errno
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import types

import pytest

import tasks
from meta_train import config as config_lib
from meta_train import configs, main
from meta_train.command import flags, guard, program, programs
from meta_train.config import MetaTrainConfig
from meta_train.engine import training
from meta_train.errors import UserError
from meta_train.evaluation.problems import load_problems

ROOT = pathlib.Path(__file__).resolve().parent.parent


def test_no_flags_give_the_recipe_of_the_default_suite():
  command = flags.parse([])
  assert command.action == "run"
  assert command.config == configs.get_recipe("quick")


def test_flags_win_over_the_recipe_and_nothing_else_changes():
  config = flags.parse(["--recipe=quick", "--seed=7", "--noevaluate"]).config
  expected = dataclasses.replace(
    configs.get_recipe("quick"), recipe="quick", seed=7, evaluate=False
  )
  assert config == expected


def test_every_field_is_a_flag_with_its_type():
  config = MetaTrainConfig()
  for field in config_lib.options():
    value = getattr(config, field.name)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    parsed = flags.parse([f"--{field.name}={text}"]).config
    assert getattr(parsed, field.name) == value
    assert type(getattr(parsed, field.name)) is type(value)


def test_parsing_again_remembers_nothing():
  flags.parse(["--seed=7"])
  assert flags.parse([]).config.seed == MetaTrainConfig().seed


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_the_first_word_starts_another_program(name, capsys, monkeypatch):
  assert main.main([name, "--help"]) == 0
  given = capsys.readouterr().out
  assert f"meta_train.{name}" in given
  monkeypatch.setattr(sys, "argv", ["meta_train", name, "--help"])
  assert main.main() == 0
  assert capsys.readouterr().out == given
  # Folders keep the command line, which is now that of the program.
  assert pathlib.Path(sys.argv[0]).stem != "meta_train"
  assert sys.argv[1:] == ["--help"]
  assert f"  {name} " in flags.help_text(MetaTrainConfig())


def test_a_word_that_is_no_program_is_refused_with_a_hint(capsys):
  assert main.main(["evalute"]) == 2
  said = capsys.readouterr().err
  assert "did you mean evaluate?" in said and said.count("\n") == 1


def test_help_shows_every_flag_with_default_and_unit():
  text = " ".join(flags.help_text(MetaTrainConfig()).split())
  for field in config_lib.options():
    default = getattr(MetaTrainConfig(), field.name)
    shown = {"": "empty"}.get(default, str(default))
    shown = shown.lower() if isinstance(default, bool) else shown
    shown += f"; off: --no{field.name}" if default is True else ""
    unit = field.metadata["unit"]
    assert f"--{field.name} {field.metadata['text']}" in text
    assert f"(default: {shown} {unit}".rstrip() + ")" in text


def test_every_number_has_a_unit_or_is_a_pure_number():
  pure = {"seed", "theta_average", "process_id"}
  pure |= {"outer_gradient_clip", "task_gradient_clip"}
  for field in config_lib.options():
    if type(field.default) in (int, float) and field.name not in pure:
      assert field.metadata["unit"], field.name


@pytest.mark.parametrize(
  "arguments, words",
  [
    (["--outer_step=3"], ["--outer_step;", "did you mean --outer_steps?"]),
    (["--outer_steps=x"], ["--outer_steps=x", "integer"]),
    (["--outer_steps=-1"], ["--outer_steps=-1", "at least 0"]),
    (["--max_horizon=-100"], ["--max_horizon=-100", "at least 1"]),
    (["--sigma=0"], ["--sigma=0", "greater than 0"]),
    (["--theta_average=1"], ["--theta_average=1.0", "less than 1"]),
    (["--withhold_num_steps=2"], ["=2.0", "at most 1"]),
    (["--sigma=nan"], ["--sigma=nan", "finite"]),
    (["--sigma"], ["--sigma"]),
    (["--noevaluate=3"], ["--noevaluate=3", "--help"]),
    (["--help=foo"], ["--help=foo is not true or false"]),
    (["--seed=99999999999999999999"], ["--seed=9999", "at most 4294967295"]),
    (["--evaluate=perhaps"], ["--evaluate=perhaps", "true or false"]),
    (["--min_horizon=50", "--truncation=60"], ["--truncation=60", "most 50"]),
    (["--truncation=2000"], ["longer than the shortest", "use at most 100"]),
    (["--truncation=60", "--max_horizon=110"], ["--max_horizon=120"]),
    (["--min_horizon=90", "--max_horizon=80"], ["--max_horizon=80", "90"]),
    (["--recipe=quik"], ["--recipe=quik", "did you mean quick?"]),
    (["quick"], ["'quick'", "--name=value"]),
    (["--flagfile=/nonexistent"], ["/nonexistent"]),
  ],
)
def test_a_mistake_gives_one_line_and_exit_code_2(arguments, words, capsys):
  assert main.main(arguments) == 2
  printed = capsys.readouterr()
  assert printed.out == ""
  assert printed.err.count("\n") == 1
  for word in words:
    assert word in printed.err


def test_an_unknown_suite_lists_the_suites(capsys, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert main.main(["--task_suite=quik"]) == 2
  error = capsys.readouterr().err
  assert "did you mean quick?" in error
  assert "there are:" in error
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(flag, capsys):
  assert main.main([flag]) == 0
  assert "--task_suite" in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="needs SIGTERM")
def test_termination_unwinds_and_leaves_no_handler(capsys, monkeypatch):
  cleaned_up = []

  def terminate(arguments):
    del arguments
    try:
      os.kill(os.getpid(), signal.SIGTERM)
      time.sleep(60)
    finally:
      cleaned_up.append(True)

  monkeypatch.setattr(main, "_dispatch", terminate)
  before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
  try:
    assert main.main([]) == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
  finally:
    signal.signal(signal.SIGTERM, before)
  assert cleaned_up
  printed = capsys.readouterr().err
  assert "continues from the last checkpoint, if there is one" in printed
  assert printed.count("\n") == 1


def test_main_works_in_any_thread(capsys):
  codes = []
  thread = threading.Thread(target=lambda: codes.append(main.main(["-h"])))
  thread.start()
  thread.join()
  assert codes == [0]
  assert "--task_suite" in capsys.readouterr().out


def test_help_says_how_to_turn_off_what_is_on():
  lines = " ".join(flags.help_text(MetaTrainConfig()).split())
  assert "default: true; off: --noevaluate" in lines
  assert "--notensorboard" not in lines


def test_programs_on_folders_end_in_one_line(capsys):
  def read_only(words):
    raise OSError(errno.EROFS, "Read-only file system", words[0])

  def stopped(words):
    signal.raise_signal(signal.SIGTERM)

  for work, code, words in (
    (read_only, 2, "read or write here/a (Read-only file system)"),
    (stopped, 143, "stopped"),
  ):
    found = program.run_on_folders("name", work, ["here/a"], text="")
    assert found == code
    printed = capsys.readouterr().err
    assert words in printed and printed.count("\n") == 1


def test_lists(capsys, monkeypatch):
  # Each task is timed, so one will do.
  monkeypatch.setattr(
    tasks.registry, "list_problems", lambda: ("mlp_digits_32",)
  )
  for flag, name in (
    ("--list_suites", "quick"),
    ("--list_recipes", "quick"),
    ("--list_tasks", "2,410"),
  ):
    assert main.main([flag]) == 0
    assert name in capsys.readouterr().out


def test_recipes_are_configurations():
  for name in configs.list_recipes():
    config = configs.get_recipe(name)
    assert type(config) is MetaTrainConfig
    # What is named exists, and some of it is to be trained on.
    problems = load_problems(config)
    assert problems.train
    assert bool(config.validate_every) <= bool(problems.validation)
    module = importlib.import_module(f"meta_train.configs.{name}")
    command = f"python -m meta_train --recipe={name}"
    if name in tasks.list_suites():
      command = f"python -m meta_train --task_suite={name}"
    assert command in module.__doc__


def test_runs_of_all_recipes_have_folders_of_their_own():
  names = [f"--recipe={name}" for name in configs.list_recipes()]
  others = ["--task_suite=all_small", "--task_suite=mlp8", "--task=a:B"]
  folders = [
    flags.parse([word, f"--seed={seed}"]).config.folder
    for word in (*names, *others)
    for seed in (0, 1)
  ]
  assert len(set(folders)) == len(folders)
  assert flags.parse([]).config.folder == "runs/quick-seed0"
  for recipe, folder in (
    ("quick", "runs/quick-seed0"),
    ("gpu", "runs/gpu-all_small-seed0"),
  ):
    assert flags.parse([f"--recipe={recipe}"]).config.folder == folder
  given = ["--recipe=gpu", "--task=a:B", "--seed=3"]
  assert flags.parse(given).config.folder == "runs/gpu-a-B-seed3"
  assert flags.parse([*given, "--run_dir=x"]).config.folder == "x"


def test_an_unknown_augmentation_names_the_flag():
  for task in ("", "tests.none:Task"):
    config = MetaTrainConfig(augment="scale_loss,scale_lss", task=task)
    with pytest.raises(
      UserError, match=r"^--augment=scale_lss is unknown; did"
    ):
      load_problems(config)


def test_a_size_that_the_memory_does_not_have_names_the_flag():
  config = MetaTrainConfig(memory_floats=3)
  with pytest.raises(UserError, match=r"^--memory_floats=3 .* from: 2, 4, 6"):
    training.optimizer_config(config)


def test_a_folder_without_the_data_is_one_line(tmp_path):
  for folder in (tmp_path, tmp_path / "none"):
    config = MetaTrainConfig(task_suite="mlp8", data_dir=str(folder))
    with pytest.raises(UserError, match=r"--data_dir=.*mlp_mnist.*mnist"):
      load_problems(config)


def _run(arguments, folder, code="-m meta_train"):
  command = [sys.executable, *code.split(), *arguments]
  return subprocess.run(
    command,
    cwd=folder,
    env={"PYTHONPATH": str(ROOT), "PATH": ""},
    capture_output=True,
    text=True,
    timeout=120,
  )


def test_help_and_mistakes_from_outside(tmp_path):
  done = _run(["--help"], tmp_path)
  assert done.returncode == 0
  assert "--task_suite" in done.stdout
  done = _run(["--see=1"], tmp_path)
  assert done.returncode == 2
  assert "did you mean --seed?" in done.stderr
  assert "Traceback" not in done.stderr


def test_a_users_tasks_module_is_noticed(tmp_path):
  (tmp_path / "tasks.py").write_text("raise SystemExit('not ours')\n")
  done = _run(["--seed=1"], tmp_path)
  assert done.returncode == 2
  assert str(tmp_path / "tasks.py") in done.stderr
  assert "hides the package tasks" in done.stderr
  assert done.stderr.count("\n") == 1
  # Whoever only wants the optimizer may keep such a file.
  (tmp_path / "mine.py").write_text(
    "import flt_lopt; flt_lopt.OptimizerConfig()\n"
  )
  done = _run([], tmp_path, code="mine.py")
  assert done.returncode == 0, done.stderr


def test_the_guard_accepts_our_own_packages():
  guard.check_packages()


@pytest.mark.parametrize("name", ["numpy", "jax", "optax", "haiku", "chex"])
def test_a_users_file_may_not_hide_a_package_of_others(
  name, tmp_path, monkeypatch
):
  file = tmp_path / f"{name}.py"
  file.write_text("raise SystemExit('not the real one')\n")
  # As if it had been found first: numpy itself is imported long since.
  hidden = importlib.util.spec_from_file_location(name, file)
  fake = types.ModuleType(name)
  fake.__spec__ = hidden
  with monkeypatch.context() as patch:
    patch.setitem(sys.modules, name, fake)
    with pytest.raises(UserError, match=f"hides the package {name},") as caught:
      guard.check_packages()
  assert str(file) in str(caught.value)
