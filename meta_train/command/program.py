"""What the smaller programs share: flags in, exit code out.

Exit codes are those of `meta_train.main`: 0 for success, 2 for whatever the
user can mend, which is said in one line, and 128 plus the signal's number
where the program was stopped.

Main names: `run_program`, `run_on_folders`, `exit_code`, `help_text`.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from meta_train import terminal
from meta_train.command import command_line, guard, signals
from meta_train.errors import UserError


def run_program(
  program: command_line.Program,
  run: Callable[[Any], None],
  arguments: Sequence[str] | None,
  *,
  summary: str,
) -> int:
  """Parses flags, does the work and returns the exit code.

  Args:
    program: its flags.
    run: does the work, given the program's config.
    arguments: without the program's name; None: those of this process.
    summary: what it does, for `--help`.
  """

  def work(words: Sequence[str]) -> None:
    parsed = command_line.parse(program, words)
    config = program.config(**parsed.given)
    if "help" in parsed.actions:
      print(help_text(program, config, summary))
    else:
      run(config)

  return exit_code(program.name.removeprefix("python -m "), work, arguments)


def exit_code(
  name: str,
  work: Callable[[Sequence[str]], None],
  arguments: Sequence[str] | None,
) -> int:
  """Does the work, says in one line what ended it, and returns the exit code.

  Args:
    name: of the program.
    work: what it does, given the command line's words.
    arguments: without the program's name; None: those of this process.
  """
  try:
    with signals.terminable(), terminal.heard():
      guard.check_packages()
      work(sys.argv[1:] if arguments is None else arguments)
  except UserError as error:
    terminal.say(f"{name}: {' '.join(str(error).split())}")
    code = 2
  except signals.Stopped as error:
    terminal.say(
      f"{name}: stopped; the same command continues with what is missing"
    )
    code = error.code
  else:
    return 0
  # Jobs on other threads may be inside the compiler or a compiled program
  # still, which does not outlive the interpreter; all rows that are done are on
  # the disk.
  if arguments is None:
    with contextlib.suppress(OSError, ValueError):  # Nobody reads it.
      sys.stdout.flush()
    os._exit(code)
  return code


def run_on_folders(
  name: str,
  run: Callable[[Sequence[str]], None],
  arguments: Sequence[str] | None,
  *,
  text: str,
) -> int:
  """Hands folders to the work and returns the exit code.

  Args:
    name: of the program.
    run: does the work, given the command line's words.
    arguments: without the program's name; None: those of this process.
    text: for `--help`.
  """
  words = list(sys.argv[1:] if arguments is None else arguments)
  try:
    with signals.terminable(), terminal.heard():
      if {"--help", "-h", "-help"} & set(words):
        print(text)
        return 0
      for word in words:
        if word.startswith("-"):
          raise UserError(
            f"unknown flag {word}; give folders alone, see --help"
          )
      run(words)
  except UserError as error:
    terminal.say(f"{name}: {error}")
    return 2
  except OSError as error:
    where = f" {error.filename}" if error.filename else ""
    terminal.say(
      f"{name}: cannot read or write{where} ({error.strerror or error}); make "
      "room, or name a folder that is yours"
    )
    return 2
  except signals.Stopped as error:
    terminal.say(f"{name}: stopped; the same command begins again")
    return error.code
  return 0


def help_text(program: command_line.Program, config: Any, summary: str) -> str:
  """Returns the text of `--help` on a program's own flags.

  Args:
    program: whose.
    config: its values are shown as the defaults.
    summary: what it does.
  """
  return "\n".join(
    [
      summary,
      "",
      f"usage: {program.name} [--name=value ...]",
      "",
      "The same command again continues where it was stopped.",
      *command_line.flag_entries(program, config),
      *command_line.action_entries(program),
    ]
  )
