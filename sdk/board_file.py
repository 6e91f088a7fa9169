"""Reading a board file: each value checked, each fault with its file, key and remedy."""

from __future__ import annotations

import difflib
import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from sdk.boards import (
    COUNTER_UNITS,
    FRAME_BYTES,
    GUARD_BYTES,
    Board,
    Counter,
    Emulator,
    MemoryRegion,
    Serial,
    overlap,
)
from sdk.errors import BoardError
from sdk.paths import FIRMWARE
from sdk.program import Profile

ADDRESSES = 1 << 32  # of a microcontroller: 32 bits
SHOWN = 300  # characters of a fault: what a damaged file holds may be long
REMEDY = "docs/boards.md explains every key."
BAUDS = (9600, 19200, 38400, 57600, 115200, 230400, 250000, 460800, 500000, 921600, 1000000, 1500000, 2000000, 3000000)
# Which cores run the kernels of a profile, by the beginning of `build.cpu`.
CORES = {
    Profile.portable: "",
    Profile.thumb: "cortex-m",
    Profile.arm_dsp: "cortex-m(4|7|33|35p|55|85)",
    Profile.arm_mve: "cortex-m(55|85)",
    Profile.riscv: "rv32|riscv|esp32c",
    Profile.xtensa: "esp32(s|$)|xtensa|de233",
}

T = TypeVar("T")


class _Section:
    """One object of a board file, read key by key; every fault names the file and the key."""

    def __init__(self, path: Path, name: str, values: Any) -> None:
        self.path = path
        self.name = name
        if not isinstance(values, dict):
            raise self.fault("", "must be an object { }")
        self.values: dict[str, Any] = values
        self.read: set[str] = set()

    def fault(self, key: str, text: str, remedy: str = REMEDY) -> BoardError:
        where = ".".join(part for part in (self.name, key[:SHOWN]) if part)
        text = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
        return BoardError(f"{self.path}: {where or 'the file'} {text}", remedy)

    def get(self, key: str, kind: type[T], what: str, default: T | None = None) -> T:
        """The value of `key`, of type `kind`, described as `what` in the fault; required without a `default`."""
        self.read.add(key)
        if key not in self.values:
            if default is not None:
                return default
            raise self.fault(key, f"is missing: {what}")
        value = self.values[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.fault(key, f"must be {what}, not {json.dumps(value)}")
        return value

    def text(self, key: str, what: str, default: str | None = None) -> str:
        value = self.get(key, str, what, default)
        if not value and default is None:
            raise self.fault(key, f"is empty: {what}")
        self._check_text(key, value)
        return value

    def _check_text(self, key: str, value: str) -> None:
        """Texts become words of command lines, which take no control characters, and no halves of such."""
        if re.search(r"[\0-\x1f\x7f\ud800-\udfff]", value):
            raise self.fault(key, f"holds a character that no text may hold: {json.dumps(value)}")

    def number(self, key: str, what: str, low: int, high: int = ADDRESSES, default: int | None = None) -> int:
        """An integer from `low` to `high`, or a text that holds one as C writes it (0x20000000, 16000000L)."""
        value = self.get(key, object, what, default)
        if isinstance(value, str) and re.fullmatch(r"0[xX][0-9a-fA-F]+|[0-9]+[uUlL]*", value):
            value = int(value.rstrip("uUlL"), 0)
        if not isinstance(value, int) or not low <= value <= high:
            raise self.fault(key, f"must be {what}, from {low} to {high}, not {json.dumps(value)}")
        return value

    def texts(self, key: str, what: str) -> tuple[str, ...]:
        """A list of texts; empty where it is missing."""
        values = self.get(key, list, f"a list of texts: {what}", [])
        if not all(isinstance(value, str) for value in values):
            raise self.fault(key, f"must be a list of texts: {what}, not {json.dumps(values)}")
        for value in values:
            self._check_text(key, value)
        return tuple(values)

    def section(self, key: str) -> _Section:
        return _Section(self.path, f"{self.name}.{key}".lstrip("."), self.get(key, dict, "an object { }"))

    def sections(self) -> Iterator[tuple[str, _Section]]:
        for key in self.values:
            yield key, self.section(key)

    def choice(self, key: str, options: Mapping[str, T]) -> T:
        value = self.text(key, f"one of {', '.join(options)}")
        if value not in options:
            raise self.fault(key, f"is '{value}'", f"It may be {', '.join(options)}.")
        return options[value]

    def done(self) -> None:
        """Refuses keys that nobody has read: a misspelt one would have no effect."""
        for key in self.values:
            if key not in self.read:
                close = difflib.get_close_matches(key, self.read, n=1)
                raise self.fault(key, "is not a key of board files", f"Did you mean '{close[0]}'?" if close else REMEDY)


def read_board(path: Path, values: Any) -> Board:
    """The board whose file is `path` and holds `values`. BoardError if that is not sound."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,31}", path.stem):
        raise BoardError(
            f"{path}: a board's id is the name of its file", "Use up to 32 of a-z, 0-9, - and _, and the ending .json."
        )
    return _board(_Section(path, "", values))


def _board(top: _Section) -> Board:
    build, own = top.section("build"), top.section("microlith")
    port = _port(own)
    board = Board(
        id=top.path.stem,
        path=top.path,
        name=top.text("name", "what people call the board"),
        vendor=top.text("vendor", "who makes it"),
        url=top.text("url", "where it is described"),
        cpu=build.text("cpu", "the core"),
        chip=build.text("mcu", "the chip", ""),
        clock_hz=build.number("f_cpu", "the core's clock in Hz", 1, ADDRESSES - 1),
        port=port,
        profile=own.choice("profile", {profile.name: profile for profile in Profile}),
        compiler=own.text("compiler", "the C compiler's program"),
        flags=tuple(build.text("extra_flags", "flags of the compiler", "").split()),
        linker_script=_linker_script(build, port),
        regions=_regions(own.section("regions")),
        stack_bytes=own.number("stack_bytes", "a size in bytes", 512),
        frame_bytes=own.number("frame_bytes", "a size in bytes", FRAME_BYTES[0], FRAME_BYTES[-1]),
        serial=Serial(_baud(own), _usb_ids(build)),
        flasher=own.text("flasher", "a module of sdk.flash"),
        flashers=_flashers(own),
        emulator=_emulator(own),
        counter=_counter(own.section("counter")),
    )
    own.done()
    if "upload" in top.values or board.linker_script is not None:  # PlatformIO knows no Linux boards
        _check_upload(board, top.section("upload"))
    _check_sizes(board, own)
    return board


def _port(own: _Section) -> Path:
    """A folder of firmware/ports by its name, or one of the user's by its path from the board file."""
    text = own.text("port", "the folder of the chip family's C sources")
    folder = Path(os.path.normpath(own.path.parent / text)) if "/" in text else FIRMWARE / "ports" / text
    if not any(folder.glob("*.c")):
        shipped = sorted(path.name for path in (FIRMWARE / "ports").iterdir() if path.name != "common")
        raise own.fault("port", f"is '{text}', but {folder} holds no C sources", f"Ports: {', '.join(shipped)}.")
    return folder


def _linker_script(build: _Section, port: Path) -> Path | None:
    text = build.text("ldscript", "the linker script", "")
    if not text:
        return None
    for folder in (port, FIRMWARE / "ports" / "common"):
        if (folder / text).is_file():
            return folder / text
    raise build.fault("ldscript", f"is '{text}', which is neither in {port} nor in the common ports")


def _regions(section: _Section) -> Mapping[str, MemoryRegion]:
    regions = {}
    for name, values in section.sections():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise section.fault(name, "is not a name for a region: use a-z, 0-9 and _")
        origin = values.number("origin", "an address", 0)
        size = values.number("bytes", "a size in bytes", 64)
        erase = values.number("erase_bytes", "a size in bytes", 256) if name == "programs" else 0
        regions[name] = MemoryRegion(origin, size, erase)
        if origin % 4 or regions[name].end > ADDRESSES:
            raise section.fault(name, "must begin at a multiple of 4 and end within 32 bits of addresses")
        values.done()
    for name in ("flash", "ram"):
        if name not in regions:
            raise section.fault(name, "is missing")
    return MappingProxyType(regions)


def _baud(own: _Section) -> int:
    serial = own.section("serial")
    baud = serial.get("baud", object, "the speed of the serial line")
    if not isinstance(baud, int) or baud not in BAUDS:
        usual = ", ".join(map(str, BAUDS))
        raise serial.fault(
            "baud", f"must be a number that serial lines know, not {json.dumps(baud)}", f"One of {usual}."
        )
    serial.done()
    return baud


def _usb_ids(build: _Section) -> tuple[tuple[int, int], ...]:
    """PlatformIO's `build.hwids`: [["0x0D28", "0x0204"], ...]."""
    ids = build.get("hwids", list, "a list of pairs of USB ids", [])
    try:
        pairs = tuple((int(vendor, 16), int(product, 16)) for vendor, product in ids)
        if all(0 <= each < 1 << 16 for pair in pairs for each in pair):
            return pairs
    except (TypeError, ValueError):
        pass
    raise build.fault("hwids", 'must be a list of pairs like ["0x0D28", "0x0204"]')


def _flashers(own: _Section) -> Mapping[str, Mapping[str, str | int]]:
    """The ways to flash the board: that of `flasher`, and each that has a section of its name."""
    from sdk.flash import FLASHERS

    default = own.choice("flasher", {name: name for name in FLASHERS})
    ways = [default, *(name for name in FLASHERS if name in own.values and name != default)]
    return MappingProxyType({name: _options(own, name) for name in ways})


def _options(own: _Section, flasher: str) -> Mapping[str, str | int]:
    """The section of a flasher, which wants the keys of its OPTIONS. An emulator's has a class of its own."""
    from sdk.flash import options

    wanted = options(flasher)
    if flasher == "emulator" or (not wanted and flasher not in own.values):
        return MappingProxyType({})
    section, values = own.section(flasher), {}
    for key, kind in wanted.items():
        what = f"an option of the flasher {flasher}"
        values[key] = section.text(key, what) if kind is str else section.number(key, what, 0)
    section.done()
    return MappingProxyType(values)


def _emulator(own: _Section) -> Emulator | None:
    if "emulator" not in own.values:
        return None
    section = own.section("emulator")
    emulator = Emulator(
        command=section.text("command", "QEMU's program"),
        machine=section.text("machine", "a machine of QEMU"),
        uart=section.number("uart", "the number of the machine's serial port", 0, 15, 0),
        options=section.texts("options", "more options of QEMU"),
        counter=_counter(section.section("counter")) if "counter" in section.values else None,
    )
    section.done()
    return emulator


def _counter(section: _Section) -> Counter:
    unit = section.choice("unit", {unit: unit for unit in COUNTER_UNITS})
    ratio = section.get("ticks_per_unit", object, "how many ticks make one unit")
    if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 1e-6 < ratio < 1e9:
        raise section.fault("ticks_per_unit", f"must be a number from 1e-6 to 1e9, not {json.dumps(ratio)}")
    section.done()
    return Counter(unit, float(ratio))


def _check_upload(board: Board, upload: _Section) -> None:
    """PlatformIO's sizes and the regions are two places for the same figures."""
    for key, name in (("maximum_size", "flash"), ("maximum_ram_size", "ram")):
        size = upload.number(key, "a size in bytes", 1)
        if size != board.regions[name].bytes:
            raise upload.fault(key, f"is {size}, but microlith.regions.{name}.bytes is {board.regions[name].bytes}")


def _check_programs(board: Board, own: _Section) -> None:
    """Whole blocks, at the end of the image's flash or apart from it. A frame must hold a page."""
    from sdk.link.messages import FLASH_PAGE_BYTES

    if "programs" not in board.regions:
        return
    flash, programs = board.regions["flash"], board.regions["programs"]
    if programs.origin % programs.erase_bytes or programs.bytes % programs.erase_bytes:
        raise own.fault("regions.programs", f"must be whole blocks of its erase_bytes, {programs.erase_bytes:,}")
    if programs.erase_bytes % FLASH_PAGE_BYTES or board.frame_bytes < 2 * FLASH_PAGE_BYTES:
        raise own.fault(
            "regions.programs",
            f"is written in pages of {FLASH_PAGE_BYTES}: a block holds whole ones, a frame more than one",
        )
    if overlap(flash, programs) and (programs.origin < flash.origin or programs.end != flash.end):
        raise own.fault("regions.programs", "must be the end of the region flash, or lie apart from it")


def _check_apart(board: Board, own: _Section) -> None:
    """No two regions share memory, but that `programs` may be the end of `flash`. Fast RAM also lies apart from what
    guards the stack below `ram`. Of a process of the host the system sees to that."""
    if board.linker_script is None:
        return
    for (name, region), (other, of) in itertools.combinations(board.regions.items(), 2):
        if overlap(region, of) and {name, other} != {"flash", "programs"}:
            raise own.fault(
                f"regions.{name}", f"overlaps {other}", "Correct their origin and bytes: the chip's memory map."
            )
    fast, ram = board.regions.get("fast"), board.regions["ram"]
    if fast is None:
        return
    if fast.origin % 16:
        raise own.fault("regions.fast", "must begin at a multiple of 16")
    if overlap(fast, MemoryRegion(ram.origin - GUARD_BYTES, GUARD_BYTES)):
        raise own.fault("regions.fast", f"overlaps the {GUARD_BYTES} bytes below ram that guard the stack")


def _check_profile(board: Board, own: _Section) -> None:
    """Kernels are made for instructions that other cores do not have. Of a core that is not known, its owner knows."""
    fitting = [profile.name for profile, cores in CORES.items() if re.match(cores, board.cpu.lower())]
    if len(fitting) > 1 and board.profile.name not in fitting:
        text = f"is '{board.profile.name}', whose kernels do not run on a {board.cpu}"
        raise own.fault("profile", text, f"It may be {', '.join(fitting)}.")


def _check_sizes(board: Board, own: _Section) -> None:
    """Everything must fit into the RAM."""
    _check_apart(board, own)
    _check_profile(board, own)
    _check_programs(board, own)
    if board.stack_bytes % 16:
        raise own.fault("stack_bytes", f"must be a multiple of 16, not {board.stack_bytes}")
    if board.frame_bytes not in FRAME_BYTES:
        raise own.fault("frame_bytes", f"must be a multiple of 4, not {board.frame_bytes}")
    if board.program_ram_bytes <= 0:
        raise own.fault("stack_bytes", f"and two frames leave nothing of {board.ram_bytes} bytes of RAM")
    if board.flasher == "emulator" and board.emulator is None:
        raise own.fault("emulator", "is missing, and the flasher is 'emulator'")
