"""From a model's file to a device that runs it: load, lower, build, flash, open.

board = load_board("mps2-an386")
lowered = prepare(load("model.tflite"), board)
with deployed(lowered, board) as target:
    target.device.run([pixels])
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sdk.boards import Board
from sdk.build import Image, build
from sdk.cache import Progress, silent
from sdk.emit import Emitted, emit
from sdk.errors import LinkError
from sdk.fit import check_fits
from sdk.flash import check, flash
from sdk.graph import Graph
from sdk.link.device import Device
from sdk.link.transport import Transport
from sdk.lower import Lowered, lower
from sdk.target import Optimize
from sdk.update import forget_update


@dataclass(frozen=True)
class Deployed:
    """The image that was flashed, and the device that runs it."""

    image: Image
    device: Device


def prepare(graph: Graph, board: Board, optimize: Optimize = Optimize.balanced, weights_ram_bytes: int = 0) -> Lowered:
    """The program of a loaded model for `board`. ModelError, UnsupportedError; FitError where it is plain that no image
    can hold it (whether the firmware fits beside it, its build tells)."""
    lowered = lower(graph, board.target(optimize, weights_ram_bytes))
    check_fits(lowered, board, lambda choice: lower(graph, board.target(choice, weights_ram_bytes)))
    return lowered


def make_image(lowered: Lowered, board: Board, progress: Progress = silent) -> Image:
    """The firmware of `board` around a program. Errors as of `sdk.build`."""
    return build(board, emit(lowered), progress=progress)


def connected(board: Board, emitted: Emitted, *, port: str | None = None, progress: Progress = silent) -> Deployed:
    """Builds an image around `emitted`, flashes it and connects; the caller closes the device. Errors as of
    `sdk.build`, `sdk.flash` and `sdk.link`."""
    check(board, port=port)
    image = build(board, emitted, progress=progress)
    transport = flash(board, image, port=port, progress=progress)
    progress(f"connect to {transport.name}")
    return Deployed(image, started(board, transport))


def started(board: Board, transport: Transport) -> Device:
    """The device that was flashed, running the program of its image."""
    device = Device(transport, board_id=board.id)
    try:
        forget_update(device, board)
    except BaseException:
        device.close()
        raise
    return device


@contextmanager
def deployed(
    lowered: Lowered, board: Board, *, port: str | None = None, progress: Progress = silent
) -> Iterator[Deployed]:
    """`connected` with the program opened; the device is given back at the end. LinkError if it runs another program
    than the one flashed."""
    target = connected(board, emit(lowered), port=port, progress=progress)
    with target.device as device:
        if not device.info.holds(lowered.block):
            raise LinkError(
                f"{device.transport.name} runs another program than was flashed", "Reset the board and flash it again."
            )
        device.open_resident()
        yield target
