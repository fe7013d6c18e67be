"""`python -m meta_train.compare`: swap one part, and see what it does.

    python -m meta_train.compare --setting=variant \
      --values=flt_damped,ema,no_controller --meta_seeds=2 --recipe=ablation

Meta-trains with each value of a setting from several seeds, evaluates all
results on the same tasks, and writes how each value fares against the first:
`report.html`, `compare.md` and `compare.json` in one folder. Runs and
evaluation are those of `python -m meta_train` and of its `evaluate`. Stopped,
the same command continues; more values or seeds add to what is there.

Main names: `main`, `run`.
"""

import sys
from collections.abc import Sequence

from meta_train.command import compare_flags
from meta_train.command.compare_flags import Request
from meta_train.command.program import exit_code
from meta_train.terminal import say


def main(arguments: Sequence[str] | None = None) -> int:
  """Runs the command line and returns the exit code.

  Args:
    arguments: without the program's name; None: those of this process.
  """
  return exit_code("meta_train.compare", _main, arguments)


def _main(words: Sequence[str]) -> None:
  request = compare_flags.parse(words)
  if request.wants_help:
    print(compare_flags.help_text())
  else:
    run(request)


def run(request: Request) -> None:
  """Does what the flags say.

  Args:
    request: the flags.

  Raises:
    UserError: for anything the user can mend.
    Stopped: the program was asked to end; the run that it was in has saved.
  """
  from meta_train.comparing import (
    checks,
    children,
    compare_folder,
    members,
  )
  from meta_train.evaluation import folder_lock
  from meta_train.reports import compare_report
  from meta_train.run import machine, run_folder

  config = request.config
  found = members.make_members(request)
  machine.stay_off_devices()
  tasks = checks.check(config, found)
  with folder_lock.hold(config.path):
    compare_folder.announce(config, found, tasks)
    for number, member in enumerate(found, start=1):
      what = (
        f"{config.setting} {members.shown(member.value)}, seed {member.seed}"
      )
      if run_folder.is_finished(member.config):
        say(f"[run {number} of {len(found)}] {what}: is there already")
        continue
      say(f"[run {number} of {len(found)}] {what}: {member.config.folder}")
      children.run("meta_train", member.arguments, what=f"the run with {what}")
    children.run(
      "meta_train.evaluate",
      compare_folder.evaluation_flags(config, found),
      what="the evaluation",
    )
    page = compare_report.write_report(config.path)
  for sentence in compare_report.headlines(config.path):
    print(sentence)
  print(f"table   {page.with_name(compare_report.MARKDOWN)}\nreport  {page}")


if __name__ == "__main__":
  sys.exit(main())
