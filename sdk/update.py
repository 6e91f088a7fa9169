"""Another program for a device that runs already: into the flash beside its image, which stays as it is.

The first page, which makes the program behind it the one that the device starts with, is erased first and written last:
an update that breaks off leaves the image's own program.
"""

from __future__ import annotations

import struct

from sdk.boards import Board
from sdk.cache import Progress, silent
from sdk.errors import DeviceError, FitError, LinkError, UsageError
from sdk.link.device import Device, FlashInfo
from sdk.link.messages import FLASH_PAGE_BYTES, UPDATE_MAGIC
from sdk.lower import Lowered


def update(device: Device, board: Board, lowered: Lowered, progress: Progress = silent) -> None:
    """Makes `lowered` the program that the device starts with, and restarts it. UsageError if the board has no flash
    for that, DeviceError if its image lacks a kernel, FitError if the program is too large; nothing is changed then.
    LinkError if the device does not start with it."""
    info = _flash_info(device, board)
    _check_kernels(device, board, lowered)
    if len(lowered.block) + FLASH_PAGE_BYTES > info.bytes:
        raise FitError(
            f"the program needs {len(lowered.block):,} bytes of flash, and {device.transport.name} has "
            f"{max(info.bytes - FLASH_PAGE_BYTES, 0):,} for updates",
            "Flash it with its firmware: leave out --update.",
        )
    _write(device, info, lowered.block, progress)
    progress("restart")
    device.reboot()
    if not device.info.holds(lowered.block):
        raise LinkError(
            f"{device.transport.name} does not start with the program that was written, but with that of its image",
            f"Flash it with its firmware: sdk flash MODEL --board {board.id}",
        )


def forget_update(device: Device, board: Board) -> None:
    """Makes a device that was flashed start with the program of its image, should it hold an update of that image."""
    if "programs" in board.regions and device.flash_info().updated:
        device.erase_flash(0)
        device.reboot()


def _flash_info(device: Device, board: Board) -> FlashInfo:
    if "programs" not in board.regions:
        raise UsageError(
            f"the file of {board.id} has no region `programs`: its firmware cannot write flash", "Leave out --update."
        )
    return device.flash_info()


def _check_kernels(device: Device, board: Board, lowered: Lowered) -> None:
    missing = [kernel.name for kernel in lowered.kernels if kernel.number not in device.info.kernels]
    if missing:
        raise DeviceError(
            f"the firmware on {device.transport.name} lacks kernels that the model needs: {', '.join(missing)}",
            f"Flash model and firmware together: sdk flash MODEL --board {board.id}",
        )


def _write(device: Device, info: FlashInfo, program: bytes, progress: Progress) -> None:
    for offset in range(0, FLASH_PAGE_BYTES + len(program), info.erase_bytes):
        progress(f"erase {offset:,} of {len(program):,} bytes")
        device.erase_flash(offset)
    pages = program + b"\xff" * (-len(program) % FLASH_PAGE_BYTES)
    device.write_flash(FLASH_PAGE_BYTES, pages, lambda written, of: progress(f"write {written * 100 // of} %"))
    mark = struct.pack("<II", UPDATE_MAGIC, info.image_crc)
    device.write_flash(0, mark.ljust(FLASH_PAGE_BYTES, b"\xff"))
