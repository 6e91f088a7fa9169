"""Talks to the firmware of the tests, tests/c/board.c, over a board's serial line."""

from __future__ import annotations

import struct
import time

from sdk.link.transport import Transport


def receive(line: Transport, count: int, timeout_s: float = 60) -> bytes:
    """The bytes that come, until there are `count`."""
    data = b""
    deadline = time.monotonic() + timeout_s
    while len(data) < count and time.monotonic() < deadline:
        data += line.read(deadline - time.monotonic())
    return data


def ask(line: Transport, command: str, word: int | None = None) -> int:
    """The answer to a command of tests/c/board.c."""
    line.write(command.encode() + (b"" if word is None else struct.pack("<I", word)))
    data = receive(line, 4)
    assert len(data) == 4, data
    return int(struct.unpack("<I", data)[0])


def wake(line: Transport) -> None:
    """Waits until the firmware listens: what comes while it starts is lost, on a chip as in an emulator."""
    for attempt in range(100):
        line.write(b"z")
        if receive(line, 4, 0.2):
            while attempt and line.read(0.2):  # late answers to the attempts before
                pass
            return
    raise AssertionError("nothing answers")
