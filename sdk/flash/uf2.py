"""Chips whose boot loader is a USB drive that takes a file: RP2040 and RP2350, started with their BOOTSEL button held.

The file is in the format of Microsoft (https://github.com/microsoft/uf2): blocks of 512 bytes, each with 256 bytes of
flash and their address, so that a computer may write them in any order. The chip restarts when it has all of them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sdk.boards import Board
from sdk.cache import Progress, put
from sdk.elf import flash_image
from sdk.errors import LinkError, ToolError
from sdk.link.ports import find_port
from sdk.link.transport import SerialTransport

if TYPE_CHECKING:
    from sdk.build import Image

# `family` of chips, as files name it; `volume`: label of the drive, and the chip's id in its INFO_UF2.TXT
OPTIONS: dict[str, type[str] | type[int]] = {"family": int, "volume": str}

MOUNTS = Path("/proc/self/mounts")
LABELS = Path("/dev/disk/by-label")
BLOCK = struct.Struct("<8I476sI")
MAGIC_START, MAGIC_SECOND, MAGIC_END = 0x0A324655, 0x9E5D5157, 0x0AB16F30
FAMILY_ID_PRESENT = 0x2000
PAYLOAD_BYTES = 256
INFO_BYTES = 4096  # of a boot loader's INFO_UF2.TXT that are read: it has about a hundred
SECTOR_BYTES = 4096  # a boot ROM erases as much at once: a file of whole ones leaves nothing of what was before
COPY_BYTES = 16 << 10
RESTART_S = 10.0  # until the drive must have gone after its last block
POLL_S = 0.05


def check(board: Board, port: str | None) -> None:
    """See sdk.flash."""
    find_port(board, port)
    find_drive(board)


def flash(board: Board, image: Image, port: str | None, progress: Progress) -> WithoutReset:
    """See sdk.flash. `port` is that of the serial line; the drive is found by its label."""
    url = find_port(board, port)
    drive = find_drive(board)
    line = WithoutReset(url, board.serial.baud)  # first: nobody hears a board that is flashed and has no line
    try:
        _copy(package(board, image.elf), drive, progress)
        _wait_for_restart(drive)
    except BaseException:
        line.close()
        raise
    return line


def connect(board: Board, port: str | None) -> WithoutReset:
    """See sdk.flash."""
    return WithoutReset(find_port(board, port), board.serial.baud)


def package(board: Board, elf: Path) -> Path:
    """See sdk.flash: a file that may be dragged to the drive by hand."""
    origin, data = flash_image(elf, board.regions["flash"])
    put(elf.with_suffix(".uf2"), uf2(origin, data, int(board.flashers["uf2"]["family"])))
    return elf.with_suffix(".uf2")


def by_hand(board: Board, file: Path) -> str:
    """See sdk.flash."""
    return f"hold BOOTSEL while you plug the board in, and copy {file} to the drive {board.flashers['uf2']['volume']}"


class WithoutReset(SerialTransport):
    """A serial port of three wires."""

    def reset(self) -> None:
        """See sdk.link.transport."""
        raise LinkError(f"no wire of {self.name} resets the board", "Unplug the board and plug it in again.")


def uf2(origin: int, data: bytes, family: int) -> bytes:
    """A UF2 file that writes `data` to the address `origin`, the start of a sector, in chips of `family`."""
    data += b"\xff" * (-len(data) % SECTOR_BYTES)
    count = len(data) // PAYLOAD_BYTES
    return b"".join(
        BLOCK.pack(
            *(MAGIC_START, MAGIC_SECOND, FAMILY_ID_PRESENT, origin + start, PAYLOAD_BYTES),
            *(start // PAYLOAD_BYTES, count, family, data[start : start + PAYLOAD_BYTES], MAGIC_END),
        )
        for start in range(0, len(data), PAYLOAD_BYTES)
    )


def find_drive(board: Board) -> Path:
    """Where the drive of the board's boot loader is mounted. LinkError, with the remedy, if it is not, or if it is that
    of another chip."""
    label = str(board.flashers["uf2"]["volume"])
    drives = {path: chip for path in _mounted() if (chip := _chip(path)) is not None}
    found = [path for path, chip in drives.items() if chip == label]
    if len(found) == 1:
        return found[0]
    if found:
        places = " and ".join(str(path) for path in found)
        raise LinkError(f"{len(found)} boards wait for an image: {places}", "Unplug all but one.")
    device = LABELS / label
    if device.exists():
        raise LinkError(
            f"the drive {label} of {board.id} is not mounted", f"Mount it: udisksctl mount -b {device.resolve()}"
        )
    if drives:
        path, chip = next(iter(drives.items()))
        raise LinkError(f"the drive at {path} is that of another chip: {chip}, not {label}", _other_board(chip))
    raise LinkError(
        f"no drive {label} is there: {board.id} is not in its boot loader",
        "Hold the button BOOTSEL while you plug the board in, then run this again.",
    )


def _mounted() -> list[Path]:
    """Where drives of a boot loader's kind are mounted; a network's that is dead would be waited for without an end.
    The kernel writes blanks in paths as octal numbers."""
    lines = (line.split(" ") for line in MOUNTS.read_text(errors="replace").splitlines())
    places = (words[1] for words in lines if words[2:3] == ["vfat"])
    return [Path(re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), place)) for place in places]


def _chip(drive: Path) -> str | None:
    """The chip whose boot loader a mounted drive is, or None."""
    try:
        with (drive / "INFO_UF2.TXT").open("rb") as file:
            text = file.read(INFO_BYTES).decode(errors="replace")
    except OSError:
        return None
    match = re.search(r"^Board-ID: *(\S+)", text, re.MULTILINE)
    return match[1] if match else None


def _other_board(chip: str) -> str:
    """Which board it may be."""
    from sdk.boards import all_boards

    boards = all_boards(lambda _fault: None)
    ids = [board.id for board in boards if board.flashers.get("uf2", {}).get("volume") == chip]
    return f"Use --board {' or '.join(ids)}, or plug the right board in." if ids else "Plug the right board in."


def _copy(file: Path, drive: Path, progress: Progress) -> None:
    """Writes the file to the drive, which may be gone when its last block has come. LinkError if it goes before."""
    data = file.read_bytes()
    target = drive / "microlith.uf2"
    sent = 0
    try:
        with target.open("wb", buffering=0) as stream:
            while sent < len(data):
                sent += stream.write(data[sent : sent + COPY_BYTES])
                if sent < len(data):
                    os.fsync(stream)  # so that progress means something, and errors come where they belong
                progress(f"copy to {drive}: {100 * sent // len(data)} %")
            os.fsync(stream)
    except OSError as error:
        if sent < len(data) or error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _copy_error(drive, target, error) from error


def _copy_error(drive: Path, target: Path, error: OSError) -> LinkError | ToolError:
    again = "The board may hold half an image: plug it in with BOOTSEL held, and run this again."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        with contextlib.suppress(OSError):
            target.unlink()
        return ToolError(f"the drive at {drive} is full", "Delete what you have put on it, or plug it in again.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return LinkError(f"no permission to write to {drive}", "Mount it as the user that you are: udisksctl mount.")
    return LinkError(f"the drive at {drive} went away: {error.strerror}", again)


def _wait_for_restart(drive: Path) -> None:
    """The boot loader restarts the chip, and its drive goes away, when it has got all blocks."""
    deadline = time.monotonic() + RESTART_S
    while _chip(drive) is not None:
        if time.monotonic() > deadline:
            raise LinkError(
                f"the drive at {drive} has not taken the image", "Plug the board in again with BOOTSEL held; try again."
            )
        time.sleep(POLL_S)
