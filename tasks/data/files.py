"""Finding files that the user provides, with errors that say what to do.

Main names: `find`, `damaged`.
"""

import pathlib


def folder(source: str, data_dir: str | None) -> pathlib.Path:
  """Returns `data_dir` as a path that exists.

  Args:
    source: Name of the data source, for the error.
    data_dir: Folder or file; `~` is the home folder.

  Raises:
    ValueError: If none is given.
    FileNotFoundError: If it does not exist.
  """
  if data_dir is None:
    raise ValueError(
      f"The data source {source!r} reads files that you provide; say where"
      " they are with data_dir (--data_dir)."
    )
  path = pathlib.Path(data_dir).expanduser()
  if not path.exists():
    raise FileNotFoundError(
      f"data_dir={data_dir!r}, for the data source {source!r}, does not exist."
    )
  return path


def find(source: str, data_dir: str | None, *file_names: str) -> pathlib.Path:
  """Finds the first of some alternative files, in `data_dir` or below it.

  Args:
    source: Name of the data source, for the error, and the name of a
      sub-folder that is looked into as well.
    data_dir: Folder.
    *file_names: Names relative to the folder, in order of preference.

  Raises:
    FileNotFoundError: If there is none.
  """
  root = folder(source, data_dir)
  for base in (root, root / source):
    for file_name in file_names:
      if (base / file_name).is_file():
        return base / file_name
  raise FileNotFoundError(
    f"The data source {source!r} needs one of {', '.join(file_names)} in"
    f" {root} or {root / source}."
  )


def damaged(path: pathlib.Path | str, problem: str) -> ValueError:
  """Builds the error for a file that is not what it should be."""
  return ValueError(
    f"{path} is damaged or no such file as expected: {problem}. Fetch it again."
  )
