"""How far meta-training is: a bar on a terminal, plain lines elsewhere.

Both show the outer step, the rate in outer and inner steps per second, the
time left and the current meta-loss. The loss is only fetched from the device
when it is shown, so that reporting does not hold up the next step.

Main names: `Progress`.
"""

import contextlib
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import tqdm

from meta_train.terminal import say


class Progress:
  """Reports the progress of a run; use it in a `with`.

  Args:
    total: outer steps of the whole run.
    done: outer steps that earlier starts have done.
    inner_steps: inner steps that one outer step takes, over all tasks.
    stream: where to write; None: standard error.
    every_s: seconds between plain lines.
    clock: seconds, ever increasing; tests give their own.
  """

  def __init__(
    self,
    *,
    total: int,
    done: int = 0,
    inner_steps: float = 0,
    stream: TextIO | None = None,
    every_s: float = 5.0,
    clock: Callable[[], float] = time.monotonic,
  ):
    self._total = total
    self._inner_steps = inner_steps
    self._stream = sys.stderr if stream is None else stream
    self._every_s = every_s
    self._clock = clock
    self._shown = (done, clock())
    self._bar: tqdm.tqdm | None = None
    if self._stream.isatty():
      with contextlib.suppress(OSError):
        self._bar = tqdm.tqdm(
          total=total,
          initial=done,
          unit="outer step",
          dynamic_ncols=True,
          file=self._stream,
          smoothing=0.1,
        )

  def update(self, outer_step: int, *, meta_loss: Any) -> None:
    """Tells that an outer step is done; prints only now and then.

    Args:
      outer_step: outer steps done, earlier starts included.
      meta_loss: the current meta-loss, a number or a scalar array.
    """
    shown_step, shown_s = self._shown
    now_s = self._clock()
    wait_s = 0.2 if self._bar is not None else self._every_s
    if now_s - shown_s < wait_s and outer_step < self._total:
      return
    rate = (outer_step - shown_step) / max(now_s - shown_s, 1e-9)
    self._shown = (outer_step, now_s)
    self._show(outer_step, rate, float(meta_loss))

  def note(self, text: str) -> None:
    """Prints a line of text, above the bar where there is one."""
    if self._bar is not None:
      with contextlib.suppress(OSError):
        self._bar.write(text, file=self._stream)
    else:
      say(text, self._stream)

  def close(self) -> None:
    """Ends the bar."""
    if self._bar is not None:
      with contextlib.suppress(OSError):
        self._bar.close()

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, *exc_info: object) -> None:
    self.close()

  def _show(self, outer_step: int, rate: float, meta_loss: float) -> None:
    inner = f"{_short(rate * self._inner_steps)} inner steps/s"
    if self._bar is not None:
      self._bar.set_postfix_str(
        f"meta-loss {meta_loss:.4f}, {inner}", refresh=False
      )
      with contextlib.suppress(OSError):
        self._bar.update(outer_step - self._bar.n)
      return
    left_s = (self._total - outer_step) / rate if rate > 0 else 0.0
    self.note(
      f"outer step {outer_step}/{self._total}  meta-loss {meta_loss:.4f}  "
      f"{rate:.2f} outer steps/s  {inner}  {_minutes(left_s)} left"
    )


def _short(number: float) -> str:
  """Writes 1234567 as 1.23M."""
  for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
    if number >= limit:
      return f"{number / limit:.3g}{letter}"
  return f"{number:.3g}"


def _minutes(seconds: float) -> str:
  """Writes 3725 as 1:02:05."""
  minutes, rest = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
