"""What happens when something is seen: a pin goes high, a line is sent, a command runs.

None of them holds up the camera: a line that nobody takes and a command that is still busy are counted and left.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import replace
from types import TracebackType

from sdk.camera.sinks import Sink
from sdk.camera.sources import module
from sdk.camera.watcher import Result
from sdk.errors import OutputError, UsageError

BAUD = 115200
WRITE_S = 0.05  # then a line is lost
COMMAND_S = 60.0  # then it is ended


class Only(Sink):
    """Shows `sink` only the labels `wanted`; a change is one of these."""

    def __init__(self, sink: Sink, wanted: Collection[str]) -> None:
        self._sink, self._wanted = sink, frozenset(wanted)
        self._before: set[str] = set()

    def take(self, result: Result) -> None:
        """See Sink."""
        labels = tuple(label for label in result.labels if label in self._wanted)
        before, self._before = self._before, set(labels)
        self._sink.take(replace(result, labels=labels, changed=before != self._before))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sink.__exit__(kind, error, trace)

    def close(self) -> None:
        """Closes the other."""
        self._sink.close()


class Pin(Sink):
    """A GPIO pin that is high as long as something is seen; through gpiozero, whose names it has: 17, GPIO17, BOARD11.
    MissingToolError, UsageError, OutputError."""

    def __init__(self, pin: str) -> None:
        gpiozero = module("gpiozero", "gpiozero", "python3-gpiozero")
        try:
            self._pin = gpiozero.DigitalOutputDevice(int(pin) if pin.isdecimal() else pin)
        except gpiozero.BadPinFactory as error:
            raise OutputError(
                f"gpiozero finds no pins here: {error}", "Run it on the board; its package there: python3-lgpio."
            ) from error
        except gpiozero.GPIOZeroError as error:
            raise UsageError(f"cannot use the pin {pin}: {error}", "Name a free one, as GPIO17.") from error

    def take(self, result: Result) -> None:
        """See Sink."""
        self._pin.value = bool(result.labels)

    def close(self) -> None:
        """Lets the pin go."""
        self._pin.close()


class SerialLine(Sink):
    """A line of text for each change, 115200 baud: the label and its score, `-` if nothing is seen any more. Lines that
    are not taken are lost, and counted in `lost`. MissingToolError; OutputError if the port is not there, or goes."""

    def __init__(self, port: str) -> None:
        self._serial = module("serial", "pyserial", "python3-serial")
        self._port, self.lost = port, 0
        try:
            self._line = self._serial.Serial(port, BAUD, write_timeout=WRITE_S)
        except (self._serial.SerialException, ValueError) as error:
            raise OutputError(f"cannot open the serial port: {error}", "Check the port: ls /dev/serial*") from error

    def take(self, result: Result) -> None:
        """See Sink."""
        if not result.changed:
            return
        text = f"{result.label} {result.score:.3f}" if result.label is not None else "-"
        line = "".join(character if character.isprintable() else "?" for character in text)
        try:
            self._line.write(f"{line}\n".encode())
        except self._serial.SerialTimeoutException:
            self.lost += 1
        except self._serial.SerialException as error:
            raise OutputError(f"the serial port {self._port} takes no more: {error}", "Plug it in again.") from error

    def close(self) -> None:
        """Closes the port."""
        self._line.close()


class Command(Sink):
    """A command of the shell that runs each time something new is seen. What it was is in its environment, and nowhere
    in the command: MICROLITH_LABEL, MICROLITH_SCORE, and MICROLITH_RESULT, the JSON of --json. One runs at a time;
    `skipped` counts what was seen meanwhile. It is ended after `limit_s`; if it fails, that is told and no more."""

    def __init__(self, command: str, *, limit_s: float = COMMAND_S) -> None:
        self._command, self._limit_s, self.skipped = command, limit_s, 0
        self._process: subprocess.Popen[bytes] | None = None

    def take(self, result: Result) -> None:
        """See Sink."""
        self._look()
        if not (result.changed and result.labels):
            return
        if self._process is not None:
            self.skipped += 1
            return
        about = {"LABEL": str(result.label), "SCORE": f"{result.score:.4f}", "RESULT": json.dumps(result.as_dict())}
        environment = {f"MICROLITH_{name}": text.replace("\0", "") for name, text in about.items()}
        self._since_s = time.monotonic()
        try:
            # stdout is for the results of the loop. A group of its own is ended with all that it has started.
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", self._command],
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=2,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            _tell(f"the command does not start: {error}")

    def _look(self) -> None:
        """Notices the end of the command, or ends it."""
        if self._process is None:
            return
        status = self._process.poll()
        if status is None and time.monotonic() - self._since_s > self._limit_s:
            self._end()
            _tell(f"the command was ended after {self._limit_s:g} s")
        elif status is not None:
            self._process = None
            if status:
                _tell(f"the command has ended with {status}")

    def _end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:  # Ctrl-C, SIGTERM, a camera that is gone: nobody waits for a command
            self._end()
        self.close()

    def close(self) -> None:
        """Leaves a command the rest of its time."""
        try:
            if self._process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(max(0.0, self._limit_s - (time.monotonic() - self._since_s)))
                self._look()
        finally:
            self._end()


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):  # told nowhere
        sys.stderr.write(f"{text}\n")
