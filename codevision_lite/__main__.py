"""`python -m codevision_lite VERB ...` is `codevision-lite VERB ...`."""

import sys

from codevision_lite.cli import main

if __name__ == "__main__":
    sys.exit(main())
