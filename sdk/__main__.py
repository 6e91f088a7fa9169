"""`python -m sdk` is the command `sdk`."""

import sys

from sdk.cli import main

sys.exit(main())
