"""Puts images into boards. Each module here that FLASHERS names is a flasher; a board's file says which are its own.

A flasher has:
    OPTIONS                                             what its section of a board file must hold: keys, str or int
    check(board, port)                                  fails as flash would where no image is needed to know that
    flash(board, image, port, progress) -> Transport    puts the image in, starts it, and is its serial line then
    connect(board, port) -> Transport                   the serial line of what was flashed before
    package(board, elf) -> Path                         the file that other tools flash, made beside the ELF file
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from sdk.cache import Progress, silent
from sdk.errors import UsageError

if TYPE_CHECKING:
    from sdk.boards import Board
    from sdk.build import Image
    from sdk.link.transport import Transport

FLASHERS = ("emulator", "native", "esptool", "uf2", "pyocd", "ssh")
Options = Mapping[str, type[str] | type[int]]


class Flasher(Protocol):
    """What a flasher offers. `port` is what the user gave as --port, None if nothing. `flash` reads `image.elf`, or
    what its own `package` makes of that: `image.file` may be that of another flasher of the board."""

    OPTIONS: Options

    def check(self, board: Board, port: str | None) -> None: ...

    def flash(self, board: Board, image: Image, port: str | None, progress: Progress) -> Transport: ...

    def connect(self, board: Board, port: str | None) -> Transport: ...

    def package(self, board: Board, elf: Path) -> Path: ...


def check(board: Board, *, port: str | None = None) -> None:
    """Whether there is a board to flash and all that this takes: said before an image is built, which takes a while.
    Errors as for flash()."""
    board, port = choose(board, port)
    _flasher(board.flasher).check(board, port)


def flash(board: Board, image: Image, *, port: str | None = None, progress: Progress = silent) -> Transport:
    """Puts `image` into `board`, starts it and returns its serial line, to be closed by the caller.

    ToolError if the flasher or emulator is missing or fails, LinkError if the board is not found or does not answer.
    """
    board, port = choose(board, port)
    return _flasher(board.flasher).flash(board, image, port, progress)


def connect(board: Board, *, port: str | None = None) -> Transport:
    """The serial line of `board`, running what was flashed last, to be closed by the caller. Errors as for flash()."""
    board, port = choose(board, port)
    return _flasher(board.flasher).connect(board, port)


def package(board: Board, elf: Path) -> Path:
    """The file that other tools flash into `board`: `elf` itself, or one made beside it. ToolError if that fails."""
    return _flasher(board.flasher).package(board, elf)


def by_hand(board: Board, file: Path) -> str:
    """How other tools put `file`, which `package` has made, into `board`; "" where there are none."""
    how = getattr(importlib.import_module(f"sdk.flash.{board.flasher}"), "by_hand", None)
    return str(how(board, file)) if how else ""


def options(flasher: str) -> Options:
    """The keys that the section of `flasher` in a board file must have, and their types."""
    return _flasher(flasher).OPTIONS


def choose(board: Board, port: str | None) -> tuple[Board, str | None]:
    """The board with the one flasher that is to be used, and its port; chosen again, both stay. A port that begins with
    the name of a flasher asks for that one ("emulator", "pyocd", "pyocd:SERIAL"): UsageError if the board's file does
    not have it. Without a port a board that is not connected is emulated if it can be."""
    name, _, rest = (port or "").partition(":")
    if name in board.flashers:
        return _with_flasher(board, name), rest or None
    if name in FLASHERS:
        ways = ", ".join(board.flashers)
        raise UsageError(f"--port {port}: the file of {board.id} says nothing of {name}", f"It says: {ways}.")
    if port is None and "emulator" in board.flashers:
        from sdk.link.ports import connected

        return _with_flasher(board, board.flasher if connected(board) else "emulator"), None
    return _with_flasher(board, board.flasher), port


def _with_flasher(board: Board, name: str) -> Board:
    counter = board.emulator.counter if name == "emulator" and board.emulator is not None else None
    return replace(board, flasher=name, flashers={name: board.flashers[name]}, counter=counter or board.counter)


def _flasher(name: str) -> Flasher:
    return cast(Flasher, importlib.import_module(f"sdk.flash.{name}"))
