"""The program `sdk`, also as `python -m sdk`: the command line in a process of its own."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

INTERRUPTED = 130
RETRY_S = 0.001  # shorter than what a command does between two modules that it loads late
PATIENCE_S = 2.0  # with modules that are being loaded when Ctrl-C comes
SHOW_CURSOR = b"\x1b[?25h"

_latest = 0.0  # when an interrupt that was put off ends the process


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
        _say_interrupted()
        return INTERRUPTED
    finally:
        for number in (signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)  # there is nothing left to interrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    """KeyboardInterrupt; but while a module is loaded the exception may be lost, or taken for a fault of the module: it
    is put off until that is done. A module that takes long ends the process at once."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _put_off(number)
            return
        frame = frame.f_back
    raise KeyboardInterrupt


def _put_off(number: int) -> None:
    global _latest
    if number == signal.SIGINT:
        _latest = time.monotonic() + PATIENCE_S
    if time.monotonic() > _latest:
        _say_interrupted()
        os._exit(INTERRUPTED)
    signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, RETRY_S)


def _say_interrupted() -> None:
    os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + b"interrupted\n")


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
