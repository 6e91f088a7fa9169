"""The program `sdk`, also as `python -m sdk`: the command line in a process of its own."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

INTERRUPTED = 130
SHOW_CURSOR = b"\x1b[?25h"


def start() -> int:
    """Runs the command of sys.argv and returns its exit code. Ctrl-C and closed streams cost no traceback, also while
    modules are still being loaded."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        _check_streams()
        from sdk.cli import main

        return main()
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # there is nothing left to interrupt


def _interrupt(_number: int, frame: FrameType | None) -> None:
    """KeyboardInterrupt; but while a module is loaded the process ends at once, for there the exception may be lost, or
    taken for a fault of the module. Nothing is half written then."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + b"interrupted\n")
            os._exit(INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt


def _check_streams() -> None:
    """What cannot be printed in the terminal's encoding is escaped; what nobody wants to read goes nowhere."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell: >&-
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - open until the end
        else:
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(start())
