"""Board files: what the SDK knows of each board, and all it knows.

A board file is a PlatformIO board manifest (`name`, `url`, `vendor`, `build`, `upload`) with one more section,
`microlith`. docs/boards.md explains every key. Nothing in the SDK asks for a board's name: what differs is in its file.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sdk.errors import BoardError
from sdk.paths import BOARDS
from sdk.program import Profile
from sdk.target import Optimize, Target

COUNTER_UNITS = ("instructions", "cycles", "ns")
FRAME_BYTES = range(128, 4097, 4)  # what the serial protocol allows
SERVER_RAM_BYTES = 128  # static RAM of firmware and port beside the two frames; tests hold shipped boards to it
FIRMWARE_FLASH_BYTES = 5000  # no image's interpreter and port take less; tests hold shipped boards to it

GUARD_BYTES = 4096  # below the stack: without access rights where the core can do that


@dataclass(frozen=True)
class MemoryRegion:
    """A block of memory: where it begins, how long it is; of flash that the firmware writes, what it erases at once."""

    origin: int
    bytes: int
    erase_bytes: int = 0

    @property
    def end(self) -> int:
        return self.origin + self.bytes


def overlap(a: MemoryRegion, b: MemoryRegion) -> bool:
    """Whether two regions share memory."""
    return a.origin < b.end and b.origin < a.end


@dataclass(frozen=True)
class Counter:
    """What ml_port_ticks() counts: `ticks_per_unit` ticks make one `unit`."""

    unit: str  # one of COUNTER_UNITS
    ticks_per_unit: float

    def units(self, ticks: int) -> int:
        """`ticks` as a whole number of units."""
        return round(ticks / self.ticks_per_unit)


@dataclass(frozen=True)
class Emulator:
    """The QEMU machine that stands for the board, and which of its serial ports the firmware uses."""

    command: str
    machine: str
    uart: int
    options: tuple[str, ...] = ()
    counter: Counter | None = None  # None: as on the board


@dataclass(frozen=True)
class Serial:
    """The board's serial line: speed, and the USB vendor and product ids of its adapter."""

    baud: int
    usb_ids: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Board:
    """A thing that can be flashed. Sizes in bytes."""

    id: str
    path: Path  # of its file
    name: str
    vendor: str
    url: str
    cpu: str
    chip: str  # "" where it says nothing to people, as of a computer
    clock_hz: int
    port: Path  # folder of its C sources
    profile: Profile
    compiler: str
    flags: tuple[str, ...]  # of compiler and linker
    linker_script: Path | None  # None: a process of the host
    regions: Mapping[str, MemoryRegion]  # at least flash and ram
    stack_bytes: int
    frame_bytes: int  # largest frame of the serial protocol, held twice in RAM
    serial: Serial
    flasher: str  # one of `flashers`
    flashers: Mapping[str, Mapping[str, str | int]]  # all ways to flash it, modules of sdk.flash, with their options
    emulator: Emulator | None
    counter: Counter

    @property
    def flasher_options(self) -> Mapping[str, str | int]:
        """What the board file says to its flasher."""
        return self.flashers[self.flasher]

    @property
    def emulated(self) -> bool:
        """Whether an emulator stands for the board."""
        return self.flasher == "emulator"

    @property
    def flash_bytes(self) -> int:
        return self.regions["flash"].bytes

    @property
    def ram_bytes(self) -> int:
        return self.regions["ram"].bytes

    @property
    def program_flash_bytes(self) -> int:
        """Flash that an image leaves for a program and its kernels, at most."""
        return self.flash_bytes - FIRMWARE_FLASH_BYTES

    @property
    def program_ram_bytes(self) -> int:
        """RAM that every image leaves for a program's arena and state."""
        return (self.ram_bytes - self.stack_bytes - 2 * self.frame_bytes - SERVER_RAM_BYTES) & ~15

    @property
    def fast_bytes(self) -> int:
        """Fast RAM beside `ram`, all of it a program's; 0 where there is none."""
        return self.regions["fast"].bytes & ~15 if "fast" in self.regions else 0

    def target(self, optimize: Optimize = Optimize.balanced, weights_ram_bytes: int = 0) -> Target:
        """What lowering needs to know of this board."""
        return Target(self.profile, optimize, self.fast_bytes, weights_ram_bytes)


def load_board(id_or_path: str) -> Board:
    """The board with this id, or that of a board file. BoardError if there is none or its file is not sound."""
    if id_or_path.endswith(".json") or "/" in id_or_path:
        return _read(Path(id_or_path))
    files = _board_files()
    if id_or_path not in files:
        close = difflib.get_close_matches(id_or_path.lower(), files, n=3)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        raise BoardError(f"there is no board '{id_or_path}'", f"{hint}`sdk boards` lists all of them.")
    return _read(files[id_or_path])


def all_boards(on_fault: Callable[[BoardError], None] | None = None) -> list[Board]:
    """All boards by id: the shipped ones, and the user's own. `on_fault` is told of each file that is not sound, which
    is left out then; without it such a file is a BoardError."""
    boards = []
    for _, path in sorted(_board_files().items()):
        try:
            boards.append(_read(path))
        except BoardError as error:
            if on_fault is None:
                raise
            on_fault(error)
    return boards


def board_folders() -> list[Path]:
    """Where board files are looked for; the first that has an id wins: $MICROLITH_BOARDS, `boards` in the current
    folder, then the shipped ones."""
    own = [Path(folder) for folder in os.environ.get("MICROLITH_BOARDS", "").split(os.pathsep) if folder]
    return [*own, Path("boards"), BOARDS]


def _board_files() -> dict[str, Path]:
    """Paths by board id. A `boards` folder that happens to hold other .json files does no harm: those have no
    `microlith` section."""
    files: dict[str, Path] = {}
    for folder in board_folders():
        for path in sorted(folder.glob("*.json")):
            if path.stem not in files and (folder == BOARDS or _may_be_board(path)):
                files[path.stem] = path
    return files


def _may_be_board(path: Path) -> bool:
    """Whether a .json file is a board's. One that cannot be read may be, so that its fault is told."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return True
    return isinstance(values, dict) and "microlith" in values


def _read(path: Path) -> Board:
    from sdk.board_file import read_board

    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise BoardError(
            f"cannot read the board file {path}: {error.strerror}", "`sdk boards` lists the boards that there are."
        ) from error
    except (ValueError, RecursionError) as error:
        raise BoardError(f"{path} is not a JSON file: {error}", "`sdk boards new` writes a sound one.") from error
    try:
        return read_board(path, values)
    except OSError as error:
        raise BoardError(
            f"{path}: a folder or file that it names cannot be looked for: {error.strerror}",
            "Correct microlith.port or build.ldscript.",
        ) from error
