"""What the programs of a board without the command `sdk` share: they end with a reason, and results have a stream."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

from sdk.closing import unwinding
from sdk.errors import SdkError

INTERRUPTED, BROKEN_PIPE = 130, 141  # as of `sdk`


def call(program: Callable[[], None]) -> int:
    """Runs `program` and returns its exit code. Errors, Ctrl-C and a reader who leaves cost no traceback."""
    try:
        with unwinding():
            program()
    except SdkError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return BROKEN_PIPE
    finally:
        _give_up_output()
    return 0


def _give_up_output() -> None:
    """What stdout does not take goes nowhere: Python would try again at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), sys.stdout.fileno())


def own_output() -> IO[bytes]:
    """stdout, for this program alone: engines and cameras write to what they take for the terminal, and get stderr."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return out
