"""The serial protocol: frames, messages, transports, and the device that answers."""

from __future__ import annotations

from sdk.boards import Board
from sdk.flash import connect as connect_line
from sdk.link.device import Device


def connect(board: Board, *, port: str | None = None) -> Device:
    """The device that is `board`, with what was flashed into it last. To be closed, best by `with`.

    LinkError if it does not answer or is another board; ToolError if its emulator is missing.
    """
    return Device(connect_line(board, port=port), board_id=board.id)
