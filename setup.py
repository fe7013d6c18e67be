"""Packaging of flt_lopt, tasks and meta_train.

The version is read from flt_lopt/_version.py as text, so that building a
package imports neither jax nor the project.
"""

import pathlib
import re

from setuptools import find_packages, setup

_ROOT = pathlib.Path(__file__).resolve().parent


def _version() -> str:
  text = (_ROOT / "flt_lopt" / "_version.py").read_text(encoding="utf-8")
  match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
  if match is None:
    raise RuntimeError("flt_lopt/_version.py states no __version__")
  return match.group(1)


REQUIREMENTS = [
  "jax>=0.6.1",
  "optax>=0.2.5",
  "dm-haiku>=0.0.14",
  "chex>=0.1.89",
  "numpy>=1.26",
  "absl-py>=2.1",
  "safetensors>=0.4.3",
  "jaxtyping>=0.2.36",
  "tqdm>=4.66",
]

EXTRAS = {
  "data": ["scikit-learn>=1.4", "pillow>=10.0", "scipy>=1.11"],
  "plots": ["matplotlib>=3.8"],
  "tensorboard": ["tensorboardX>=2.6"],
  "orbax": ["orbax-checkpoint>=0.11"],
}
EXTRAS["all"] = sorted({need for extra in EXTRAS.values() for need in extra})
# What the test-suite needs: every optional part, and the libraries whose
# training loops the exported transformation is held against.
EXTRAS["test"] = EXTRAS["all"] + [
  "pytest>=8.0",
  "pytest-xdist>=3.5",
  "flax>=0.10",
  "equinox>=0.12",
  "setuptools>=64",
]
EXTRAS["dev"] = EXTRAS["test"] + ["ruff>=0.9", "mypy>=1.11"]
# An optional peer, not on the package index in a usable version.
EXTRAS["learned_optimization"] = [
  "learned_optimization @ git+https://github.com/google/learned_optimization",
]

setup(
  name="flt-lopt",
  version=_version(),
  description=(
    "Learned optimizers built on linear attention with a learned "
    "Fourier transform over the optimization timestep, for optax"
  ),
  long_description=(_ROOT / "README.md").read_text(encoding="utf-8"),
  long_description_content_type="text/markdown",
  license="Apache-2.0",
  classifiers=[
    "Development Status :: 3 - Alpha",
    "Intended Audience :: Science/Research",
    "Programming Language :: Python :: 3",
    "Topic :: Scientific/Engineering :: Artificial Intelligence",
  ],
  python_requires=">=3.11",
  packages=find_packages(
    include=["flt_lopt", "flt_lopt.*", "tasks", "tasks.*"]
    + ["meta_train", "meta_train.*"]
  ),
  package_data={
    "flt_lopt": [
      "py.typed",
      "pretrained/*.safetensors",
      "pretrained/README.md",
    ],
    "tasks": ["py.typed"],
    "meta_train": ["py.typed", "evaluation/baseline_results/*.jsonl.gz"],
  },
  install_requires=REQUIREMENTS,
  extras_require=EXTRAS,
)
