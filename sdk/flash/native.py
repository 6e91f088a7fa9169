"""The firmware as a process of this computer. Reset is a new process, as a power cycle is for a chip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sdk.boards import Board
from sdk.cache import Progress
from sdk.errors import LinkError
from sdk.flash.process import VIRTUAL_QUICK_S, Child, Line, no_port, store, stored

if TYPE_CHECKING:
    from sdk.build import Image

OPTIONS: dict[str, type[str]] = {}


def check(board: Board, port: str | None) -> None:
    """See sdk.flash."""
    no_port(board, port)


def flash(board: Board, image: Image, port: str | None, progress: Progress) -> NativeTransport:
    """See sdk.flash."""
    no_port(board, port)
    progress(f"flash {board.id}")
    return NativeTransport(board, store(board, image.elf))


def connect(board: Board, port: str | None) -> NativeTransport:
    """See sdk.flash."""
    no_port(board, port)
    return NativeTransport(board, stored(board))


def package(_board: Board, elf: Path) -> Path:
    """See sdk.flash."""
    return elf


class ProcessTransport:
    """The serial line of firmware that runs as a process: the stdin and stdout of `command`."""

    quick_s = VIRTUAL_QUICK_S

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._command = command
        self._start()

    def _start(self) -> None:
        self._line = Line()
        self._child = Child(self._command, [self._line.there], stdio=self._line.there.fileno())

    def read(self, timeout_s: float) -> bytes:
        """See sdk.link.transport."""
        data = self._line.read(timeout_s)
        if data is None:
            raise self._gone()
        return data

    def write(self, data: bytes) -> None:
        """See sdk.link.transport."""
        if not self._line.write(data):
            raise self._gone()

    def reset(self) -> None:
        """See sdk.link.transport."""
        self.close()
        self._start()

    def close(self) -> None:
        """See sdk.link.transport."""
        self._line.close()
        self._child.end()

    def _gone(self) -> LinkError:
        return LinkError(f"{self.name} has ended: {self._child.epitaph()}", "Connect again: that starts a new one.")


class NativeTransport(ProcessTransport):
    """The same of an image that runs here."""

    def __init__(self, board: Board, elf: Path) -> None:
        super().__init__(f"{board.id} (process)", [str(elf)])
