"""Puts images into boards. Each module here is a flasher; a board's file says which one is its own.

A flasher has two functions:
    flash(board, image, port, progress) -> Transport    puts the image in, starts it, and is its serial line then
    connect(board, port) -> Transport                   the serial line of what was flashed before
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Protocol, cast

from sdk.boards import Board
from sdk.cache import Progress, silent

if TYPE_CHECKING:
    from sdk.build import Image
    from sdk.link.transport import Transport


class Flasher(Protocol):
    """What a module of this package offers. `port` is what the user gave as --port, None if nothing."""

    def flash(self, board: Board, image: Image, port: str | None, progress: Progress) -> Transport: ...

    def connect(self, board: Board, port: str | None) -> Transport: ...


def flash(board: Board, image: Image, *, port: str | None = None, progress: Progress = silent) -> Transport:
    """Puts `image` into `board`, starts it and returns its serial line, to be closed by the caller.

    ToolError if the flasher or emulator is missing or fails, LinkError if the board does not answer.
    """
    return _flasher(board).flash(board, image, port, progress)


def connect(board: Board, *, port: str | None = None) -> Transport:
    """The serial line of `board`, running what was flashed last, to be closed by the caller. Errors as for flash()."""
    return _flasher(board).connect(board, port)


def _flasher(board: Board) -> Flasher:
    return cast(Flasher, importlib.import_module(f"sdk.flash.{board.flasher}"))
