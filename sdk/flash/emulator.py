"""Boards that QEMU stands in for: the same image as for the board, the serial port as a byte stream, reset as a reset.

Nothing is left behind: no files but the board's flash in the cache, and no process once the transport is closed or this
process has ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from sdk.boards import Board
from sdk.cache import Progress, cache_dir
from sdk.errors import LinkError, ToolError
from sdk.flash.process import POKE_S, READ_BYTES, VIRTUAL_QUICK_S, Child, Line, no_port, store, stored
from sdk.tools import find_tool

if TYPE_CHECKING:
    from sdk.build import Image

# One instruction takes 2^7 = 128 ns of the machine's time, never waiting for the host's: timers count instructions.
INSTRUCTION_COUNT = "shift=7,align=off,sleep=off"
START_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 10.0
OPTIONS: dict[str, type[str]] = {}  # sdk.boards.Emulator holds them

Message = dict[str, Any]
Result = TypeVar("Result")


def check(board: Board, port: str | None) -> None:
    """See sdk.flash."""
    no_port(board, port)
    if board.emulator is not None:
        find_tool(board.emulator.command)


def flash(board: Board, image: Image, port: str | None, progress: Progress) -> EmulatorTransport:
    """See sdk.flash."""
    no_port(board, port)
    progress(f"flash {board.id}")
    store(board, image.elf)
    return EmulatorTransport(board, image.elf)


def connect(board: Board, port: str | None) -> EmulatorTransport:
    """See sdk.flash."""
    no_port(board, port)
    return EmulatorTransport(board, stored(board))


def package(_board: Board, elf: Path) -> Path:
    """See sdk.flash."""
    return elf


class EmulatorTransport:
    """The serial line of an image that runs in QEMU. ToolError if QEMU is missing or does not start."""

    quick_s = VIRTUAL_QUICK_S

    def __init__(self, board: Board, elf: Path) -> None:
        if board.emulator is None:
            raise ValueError(f"{board.id} has no emulator: its file was not checked")
        self.name = f"{board.id} (emulated)"
        tool = find_tool(board.emulator.command)
        self._line, self._control = Line(), _Control()
        options = _options(board, elf, self._line.there.fileno(), self._control.line.there.fileno())
        self._child = Child([tool, *options], [self._line.there, self._control.line.there])
        try:
            if not self._control.start():
                raise ToolError(f"{board.emulator.command} does not start: {self._child.epitaph()}")
        except BaseException:
            self.close()
            raise
        # Firmware waits for its next byte by asking for it: a device that nobody listens to would take a whole core.
        self._child.doze()

    def read(self, timeout_s: float) -> bytes:
        """See sdk.link.transport."""
        deadline, slice_s = time.monotonic() + timeout_s, POKE_S
        with self._child.awake():
            while True:
                left_s = deadline - time.monotonic()
                data = self._line.read(min(left_s, slice_s))
                if data is None:
                    raise self._gone()
                if data or left_s <= slice_s:
                    return data
                self._control.poke()
                slice_s *= 2

    def write(self, data: bytes) -> None:
        """See sdk.link.transport."""
        with self._child.awake():
            if not self._line.write(data):
                raise self._gone()
            self._line.wait_until_taken(self._control.poke)

    def reset(self) -> None:
        """See sdk.link.transport. The machine stands still meanwhile, so that bytes from before the reset are forgotten
        and none from after it."""
        with self._child.awake():
            if not self._control.stop():
                raise self._gone()
            self._line.drain()
            if not self._control.reset():
                raise self._gone()

    @contextmanager
    def logged_blocks(self, read: Callable[[Iterable[str]], Result]) -> Iterator[Future[Result]]:
        """Lets QEMU log meanwhile each block of instructions that it executes; `read` gets the lines in another thread.
        Its result is there when the context has ended."""
        ended = Event()
        with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(1) as pool:
            pipe = Path(folder) / "blocks"
            os.mkfifo(pipe)
            result = pool.submit(_read_all, os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), ended, read)
            try:
                with self._child.awake():
                    self._control.monitor(f"logfile {pipe}", "log exec,nochain")
                yield result
            finally:
                with self._child.awake():
                    self._control.monitor("log none")
                ended.set()

    def close(self) -> None:
        """See sdk.link.transport."""
        self._line.close()
        self._control.line.close()
        self._child.end()

    def _gone(self) -> LinkError:
        return LinkError(f"{self.name} has ended: {self._child.epitaph()}", "Connect again: that starts a new one.")


def _read_all(pipe: int, ended: Event, read: Callable[[Iterable[str]], Result]) -> Result:
    """What `read` makes of the lines of a pipe. It is emptied until `ended`, whatever happens: its writer waits for
    that. QEMU does not close a log that it no longer writes."""
    lines = _lines(pipe, ended)
    try:
        return read(lines)
    finally:
        for _ in lines:
            pass
        os.close(pipe)


def _lines(pipe: int, ended: Event) -> Iterator[str]:
    rest, more = "", True
    while more or not ended.is_set():
        data = b""
        with contextlib.suppress(BlockingIOError):
            data = os.read(pipe, READ_BYTES)
        *lines, rest = (rest + data.decode(errors="replace")).split("\n")
        yield from lines
        more = bool(data) or (not ended.is_set() and ended.wait(POKE_S))


class _Control:
    """QEMU's control connection: its machine protocol (QMP), one JSON object a line."""

    def __init__(self) -> None:
        self.line = Line()
        self._received = b""

    def start(self) -> bool:
        """Waits until the machine runs. False if QEMU ends before that."""
        return self._wait_for(lambda message: "QMP" in message, START_TIMEOUT_S) and self._run("qmp_capabilities")

    def poke(self) -> None:
        """Makes QEMU look for bytes on the serial line, by a request that means nothing. It does not by itself when
        firmware has switched its receiver on: most of its serial ports forget to ask for that."""
        self.line.write(b'{"execute":"query-name"}')
        while data := self.line.read(0):  # the answers to earlier ones
            self._received = (self._received + data).rpartition(b"\n")[2]

    def stop(self) -> bool:
        """Halts the machine. False if QEMU has ended."""
        return self._run("stop")

    def reset(self) -> bool:
        """Resets the machine and lets it run. False if QEMU has ended."""
        return self._run("system_reset", _is_reset_from_here) and self._run("cont")

    def monitor(self, *commands: str) -> bool:
        """Runs commands of QEMU's monitor for people. False if QEMU has ended."""
        return all(self._run("human-monitor-command", arguments={"command-line": command}) for command in commands)

    def _run(
        self, command: str, outcome: Callable[[Message], bool] | None = None, arguments: Message | None = None
    ) -> bool:
        """Sends `command` and waits for its answer, or for what `outcome` tells. False if QEMU has ended."""
        outcome = outcome or (lambda message: message.get("id") == command)
        return self._send(command, arguments or {}) and self._wait_for(outcome, ANSWER_TIMEOUT_S)

    def _send(self, command: str, arguments: Message) -> bool:
        request = {"execute": command, "id": command, "arguments": arguments}
        return self.line.write(json.dumps(request).encode() + b"\n")

    def _wait_for(self, outcome: Callable[[Message], bool], timeout_s: float) -> bool:
        while (message := self._message(timeout_s)) is not None:
            if outcome(message):
                return True
        return False

    def _message(self, timeout_s: float) -> Message | None:
        """The next object that QEMU sends; None if it has ended."""
        while b"\n" not in self._received:
            data = self.line.read(timeout_s)
            if data is None:
                return None
            if not data:
                raise ToolError("the emulator does not answer", "The computer may be too busy: run it again.")
            self._received += data
        text, self._received = self._received.split(b"\n", 1)
        message: Message = json.loads(text)
        return message


def _is_reset_from_here(message: Message) -> bool:
    """Firmware that restarts by itself makes such events too."""
    return message.get("event") == "RESET" and not message["data"]["guest"]


def _options(board: Board, elf: Path, serial_fd: int, control_fd: int) -> list[str]:
    """Of the machine's serial ports, those before the firmware's own lead nowhere. A comma in a path counts double in
    QEMU's options, but not in that of -kernel."""
    emulator = board.emulator
    assert emulator is not None
    programs = str(_programs_file(board)).replace(",", ",,") if "programs" in board.regions else ""
    serial = [option for _ in range(emulator.uart) for option in ("-serial", "null")]
    return [
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-machine", emulator.machine),
        *(option.replace("{programs}", programs) for option in emulator.options),
        *("-icount", INSTRUCTION_COUNT),
        *("-kernel", str(elf)),
        *("-chardev", f"socket,id=serial,fd={serial_fd}", *serial, "-serial", "chardev:serial"),
        *("-chardev", f"socket,id=control,fd={control_fd}", "-mon", "chardev=control,mode=control"),
    ]


def _programs_file(board: Board) -> Path:
    """What the region `programs` holds: all zeros at first, which is no program."""
    file = cache_dir("boards", board.id) / "programs.bin"
    with file.open("ab") as stream:
        stream.truncate(board.regions["programs"].bytes)
    return file
