"""Files of data that scikit-learn brings, read without importing it.

Importing it takes about a second, most of it for SciPy's statistics, and a
program that only wants its digits would wait for that at every start.

Main names: `find`.
"""

import importlib.util
import pathlib


def find(name: str) -> pathlib.Path | None:
  """Returns the path of a file in the folder of scikit-learn's data sets.

  Args:
    name: of the file, from that folder on.

  Returns:
    `None` where scikit-learn isn't installed, or keeps it elsewhere.
  """
  spec = importlib.util.find_spec("sklearn")
  for folder in (spec and spec.submodule_search_locations) or ():
    path = pathlib.Path(folder, "datasets", name)
    if path.is_file():
      return path
  return None
