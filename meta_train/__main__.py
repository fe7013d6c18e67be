"""`python -m meta_train`; see `meta_train.main`."""

import sys

from meta_train.main import main

if __name__ == "__main__":
  sys.exit(main())
