"""`python -m jaxsafety` is the console script `jaxsafety`."""

import sys

from jaxsafety.cli import main

if __name__ == "__main__":
    sys.exit(main())
