"""The other programs of the package, and where they are.

Each is `python -m meta_train NAME`, and `python -m meta_train.NAME` too.

Main names: `PROGRAMS`.
"""

from collections.abc import Mapping
from typing import NamedTuple


class OtherProgram(NamedTuple):
  """A program beside meta-training.

  Attributes:
    module: with its `main(arguments)`.
    summary: what it does.
  """

  module: str
  summary: str


PROGRAMS: Mapping[str, OtherProgram] = {
  "evaluate": OtherProgram(
    "meta_train.evaluate", "evaluate optimizers on a suite of tasks"
  ),
  "compare": OtherProgram(
    "meta_train.compare", "meta-train with each value of a setting, and compare"
  ),
  "make_baselines": OtherProgram(
    "meta_train.make_baselines", "tune and run what they are compared with"
  ),
  "report": OtherProgram(
    "meta_train.report", "write the report of a folder anew"
  ),
  "publish": OtherProgram(
    "meta_train.publish", "copy an evaluation, small enough to ship"
  ),
}
