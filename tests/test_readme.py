"""What README.md shows is what happens."""

import contextlib
import io

import readme_blocks
import readme_results

from meta_train import config
from meta_train.run import whole

TEXT = readme_blocks.README.read_text(encoding="utf-8")


def test_the_example_trains_a_model():
  (example,) = readme_blocks.blocks("test: run", TEXT)
  code = [line for line in example.splitlines() if line.strip()]
  assert len(code) <= 20
  printed = io.StringIO()
  with contextlib.redirect_stdout(printed):
    exec(compile(example, "README.md", "exec"), {})
  first, last = map(float, printed.getvalue().split())
  assert last < 0.1 * first


def test_a_task_of_ones_own_is_meta_trained(tmp_path, monkeypatch):
  """In fifteen lines, from the command line's settings."""
  (example,) = readme_blocks.blocks("test: task", TEXT)
  assert len([line for line in example.splitlines() if line.strip()]) <= 15
  (tmp_path / "readme_tasks.py").write_text(example)
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  settings = config.MetaTrainConfig(
    task="readme_tasks:Regression",
    run_dir="run",
    outer_steps=2,
    num_tasks=2,
    truncation=2,
    min_horizon=2,
    max_horizon=4,
    evaluate=False,
  )
  whole.run(settings)
  assert (tmp_path / "run" / "theta.safetensors").exists()


def test_two_commands_do_everything():
  commands = readme_blocks.blocks("ci: run", TEXT)
  assert len(commands) == 2
  main, tests = commands
  assert main.rstrip().endswith("python -m meta_train --task_suite=quick")
  assert "python -m pytest" in tests
  for command in commands:
    assert "python3 -m venv" in command  # Each works on a fresh machine.
    assert "pip install" in command


def test_the_results_are_those_of_the_rows():
  assert readme_results.replaced(TEXT) == TEXT
