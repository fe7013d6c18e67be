"""Progress: what is printed, how often, and that losses are not fetched."""

import io

from meta_train.run.progress import Progress


class Clock:
  now_s = 0.0

  def __call__(self):
    return self.now_s


class Terminal(io.StringIO):
  def isatty(self):
    return True


class CountedLoss:
  fetched = 0

  def __float__(self):
    CountedLoss.fetched += 1
    return 0.25


def _run(stream, *, total=100, done=0, step_s=0.5, every_s=5.0):
  clock = Clock()
  with Progress(
    total=total,
    done=done,
    inner_steps=640,
    stream=stream,
    every_s=every_s,
    clock=clock,
  ) as progress:
    for step in range(done + 1, total + 1):
      clock.now_s += step_s
      progress.update(step, meta_loss=CountedLoss())
  return stream.getvalue()


def test_plain_lines_come_every_few_seconds_with_rates_and_time_left():
  CountedLoss.fetched = 0
  lines = _run(io.StringIO()).splitlines()
  assert len(lines) == 10  # 50 s, a line each 5 s.
  assert CountedLoss.fetched == 10
  assert lines[0] == (
    "outer step 10/100  meta-loss 0.2500  2.00 outer steps/s  "
    "1.28k inner steps/s  0:45 left"
  )
  assert lines[-1].startswith("outer step 100/100")
  assert lines[-1].endswith("0:00 left")


def test_the_rate_of_a_continued_run_counts_its_own_steps():
  lines = _run(io.StringIO(), done=90, total=100, every_s=1.0).splitlines()
  assert "outer step 92/100" in lines[0]
  assert "2.00 outer steps/s" in lines[0]


def test_a_terminal_gets_a_bar():
  text = _run(Terminal(), total=10)
  assert "10/10" in text
  assert "meta-loss 0.2500" in text
  assert "1.28k inner steps/s" in text
  assert "\r" in text


def test_notes_are_printed_in_both():
  for stream in (io.StringIO(), Terminal()):
    with Progress(total=1, stream=stream) as progress:
      progress.note("compiling")
    assert "compiling\n" in stream.getvalue()
