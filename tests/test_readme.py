"""What README.md shows is what happens."""

import contextlib
import io

import readme_blocks

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


def test_two_commands_do_everything():
  commands = readme_blocks.blocks("ci: run", TEXT)
  assert len(commands) == 2
  main, tests = commands
  assert main.rstrip().endswith("python -m meta_train --task_suite=quick")
  assert "python -m pytest" in tests
  for command in commands:
    assert "python3 -m venv" in command  # Each works on a fresh machine.
    assert "pip install" in command
