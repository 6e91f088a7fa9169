"""Chips of the ESP32 family, through Espressif's esptool: a program of its own, called as its users call it.

The flash of such a chip can always be written again: its boot loader is in ROM. What the ROM starts lies first in the
file, so that a chip whose cable was pulled half way starts nothing, or what fails and starts again.
"""

from __future__ import annotations

import importlib.util
import os
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from sdk.boards import Board
from sdk.cache import Progress, put, silent
from sdk.errors import LinkError, MissingToolError, ToolError
from sdk.link.ports import find_port, opened_as
from sdk.link.transport import SerialTransport

if TYPE_CHECKING:
    from sdk.build import Image

# `chip`: as esptool calls it; `baud`: of the line while it is flashed; `frequency`: of the flash's clock
OPTIONS: dict[str, type[str] | type[int]] = {"chip": str, "baud": int, "frequency": str}

BOOT_OFFSETS = {"esp32": 0x1000}  # in flash, where the ROM looks for what it starts; 0 on the other chips
MAPPED_OFFSET = 0x10000  # in flash, where the regions `code` and `flash` begin
SHT_NOBITS = 8
SILENCE_S = 150.0  # without a stub the chip erases up to 4 MB first, and says nothing
ATTEMPTS, PATIENT_ATTEMPTS = 4, 20  # to connect, a second each; and while a hand is on its way to the button
HINT = "hold the board's BOOT button, press and release its EN (RST) button, then release BOOT"
NO_ANSWER = "Failed to connect"
STAGE = r"(?:Connect|Upload|Configur)ing[^.\n]*"  # what esptool says of its work until it writes
NO_STUB = "stub flasher|flasher stub|RAM download mode|target RAM"

# What esptool says, what that means (its own words at {0}) and what to do about it.
Fault = tuple[str, str, str]
ALWAYS: tuple[Fault, ...] = (
    (
        r"This chip is (?:an? )?(\S+?),? not",
        "the chip on {port} is an {0}, and {board} has another one",
        "`sdk boards` lists the boards; a file of your own may name the chip.",
    ),
    (
        r"((?i:secure boot|flash encryption|download mode is disabled)\b.*)",
        "the chip on {port} is locked: {0}",
        "Its eFuses were burnt to take signed or encrypted images only, for good: use another board.",
    ),
)
AT_FIRST: tuple[Fault, ...] = (
    *ALWAYS,
    (
        NO_ANSWER,
        "no chip answers on {port}",
        f"Is it the right port, and a cable that carries data? Run it again and, while it connects, {HINT}.",
    ),
    (
        r"(?i)could not open \S+://.*exist\. \((?:could not open port \S+: )?(.*)\)",
        "cannot connect to {port}: {0}",
        "Check host and port, and that the program there serves the line.",
    ),
    (
        "(?i)could not open|busy or doesn't exist",
        "cannot open {port}",
        "Check the cable, and that no other program uses the port.",
    ),
)
WHILE_WRITING: tuple[Fault, ...] = (
    *ALWAYS,
    (
        r"will not fit in (\d+) bytes of flash",
        "the image is too large for the chip on {port}: its flash has {0} bytes",
        "Use a smaller model or a board with more flash; nothing was written.",
    ),
    (
        "(?i)md5|checksum|crc|does not match",
        "what arrives at the chip on {port} is not what was sent",
        "Run it again; if that does not help, use another cable or a lower esptool.baud in the board's file.",
    ),
    (
        f"(?i){NO_ANSWER}|serial|open|port|disconnected|input/output|stopped|timed out|no more data|connection|packet",
        "the chip on {port} stopped answering while it was flashed",
        "Check the cable and the board's power, then run it again: it can be flashed whatever it holds now.",
    ),
)


def check(board: Board, port: str | None) -> None:
    """See sdk.flash."""
    _check_tool()
    find_port(board, port)


def flash(board: Board, image: Image, port: str | None, progress: Progress) -> SerialTransport:
    """See sdk.flash."""
    url, chip = find_port(board, port), str(board.flasher_options["chip"])
    file = package(board, image.elf)
    with _faults(AT_FIRST, board, url):
        _refuse_locked(url, chip, progress)
    line = ["--port", opened_as(url), "--chip", chip, "--baud", str(board.flasher_options["baud"])]
    with _faults(WHILE_WRITING, board, url):
        _write(line, file, progress)
    if url.startswith("socket:"):
        progress("reset the board now: its reset line does not reach through a socket")
    return SerialTransport(url, board.serial.baud)


def connect(board: Board, port: str | None) -> SerialTransport:
    """See sdk.flash."""
    return SerialTransport(find_port(board, port), board.serial.baud)


def package(board: Board, elf: Path) -> Path:
    """See sdk.flash: one file for the flash, from its first byte on."""
    offset = BOOT_OFFSETS.get(str(board.flashers["esptool"]["chip"]), 0)
    start = b"\xff" * offset + _boot_image(board, elf)
    if len(start) > MAPPED_OFFSET:
        raise ToolError(f"the code of {elf} that the ROM starts is too large: {len(start):,} bytes")
    file = elf.with_suffix(".bin")
    put(file, start + b"\xff" * (MAPPED_OFFSET - len(start)) + _mapped(board, elf))
    return file


def by_hand(board: Board, file: Path) -> str:
    """See sdk.flash."""
    chip = str(board.flashers["esptool"]["chip"])
    offset = BOOT_OFFSETS.get(chip, 0)
    cut = f"; for image-info leave out its first {offset} bytes: tail -c +{offset + 1}" if offset else ""
    return f"esptool --chip {chip} write-flash 0x0 {file}{cut}"


def _boot_image(board: Board, elf: Path) -> bytes:
    """What the ROM loads into `iram` and starts, with header, checksum and hash. In a folder of its own: others may
    package the same image meanwhile."""
    options = board.flashers["esptool"]
    size_mb = 1 << (MAPPED_OFFSET + board.flash_bytes - 1 >> 20).bit_length()  # the least that holds it
    settings = ["--flash-mode", "dio", "--flash-freq", str(options["frequency"]), "--flash-size", f"{size_mb}MB"]
    with tempfile.TemporaryDirectory(prefix="microlith-") as folder:
        file, part = Path(folder) / "boot.bin", Path(folder) / "boot.elf"
        put(part, _without_flash(board, elf))
        try:
            _esptool(["--chip", str(options["chip"]), "elf2image", *settings, "-o", str(file), str(part)])
        except _FailedError as failure:
            raise ToolError(f"esptool makes no image of {elf}: {failure}") from failure
        return file.read_bytes()


def _without_flash(board: Board, elf: Path) -> bytes:
    """The ELF file with all sections declared empty that do not lie in `iram`: the ROM does not load them."""
    data, iram = bytearray(elf.read_bytes()), board.regions["iram"]
    with elf.open("rb") as stream:
        file = ELFFile(stream)
        for i, section in enumerate(file.iter_sections()):
            elsewhere = not 0 <= section["sh_addr"] - iram.origin < iram.bytes
            if elsewhere and section["sh_flags"] & SH_FLAGS.SHF_ALLOC:
                kind = file["e_shoff"] + i * file["e_shentsize"] + 4
                data[kind : kind + 4] = SHT_NOBITS.to_bytes(4, "little")
    return bytes(data)


def _mapped(board: Board, elf: Path) -> bytes:
    """What lies in flash from MAPPED_OFFSET on: `code` and `flash` are two views of it."""
    image = bytearray()
    with elf.open("rb") as stream:
        for segment in ELFFile(stream).iter_segments("PT_LOAD"):
            for region in (board.regions["code"], board.regions["flash"]):
                at, count = segment["p_paddr"] - region.origin, segment["p_filesz"]
                if count and 0 <= at < region.bytes:
                    image += b"\xff" * (at + count - len(image))
                    image[at : at + count] = segment.data()
    return bytes(image)


class _FailedError(Exception):
    """What esptool says when it fails."""


def _refuse_locked(url: str, chip: str, progress: Progress) -> None:
    """Fails where the chip would not start what is written. Also the first to talk to it: tells what to do by hand if
    it does not answer, and waits for that."""
    question = ["--port", opened_as(url), "--chip", chip, "--no-stub", "--after", "no-reset", "--connect-attempts"]
    try:
        try:
            answer = _esptool([*question, str(ATTEMPTS), "get-security-info"], progress)
        except _FailedError as failure:
            if NO_ANSWER not in str(failure):
                raise
            progress(f"no answer from {url} yet: {HINT}")
            answer = _esptool([*question, str(PATIENT_ATTEMPTS), "get-security-info"], progress)
    except _FailedError as failure:
        if re.search(r"get security info|\(0x14\)", str(failure)):
            return  # an ESP32 does not know the question: esptool looks into its eFuses before it writes
        raise
    for lock in re.findall(r"^(?:Secure Boot|Flash Encryption): Enabled", answer, re.MULTILINE):
        raise _FailedError(lock)


def _write(line: list[str], file: Path, progress: Progress) -> None:
    """Writes and verifies the whole file."""
    write = ["write-flash", "0x0", str(file)]
    try:
        _esptool([*line, *write], progress)
    except _FailedError as failure:  # some chips do without the program that esptool puts into RAM
        if not re.search(NO_STUB, str(failure)):
            raise
        _esptool([*line, "--no-stub", *write], progress)


@contextmanager
def _faults(faults: tuple[Fault, ...], board: Board, url: str) -> Iterator[None]:
    """Turns what esptool says into what a user may do."""
    try:
        yield
    except _FailedError as failure:
        text = str(failure).replace(opened_as(url), url)
        for pattern, message, remedy in faults:
            found = re.search(pattern, text)
            if found:
                raise LinkError(message.format(*found.groups(), port=url, board=board.id), remedy) from failure
        raise ToolError(f"esptool fails on {url}: {text}", "Run it again; sdk -v shows more.") from failure


def _check_tool() -> None:
    if importlib.util.find_spec("esptool") is None:
        raise MissingToolError("the Python package esptool is missing", f"{sys.executable} -m pip install esptool")


def _esptool(arguments: list[str], progress: Progress = silent) -> str:
    """Runs esptool and tells how far it is; what it printed. MissingToolError, _FailedError."""
    _check_tool()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"}
    command = [sys.executable, "-m", "esptool", *arguments]
    said = ""
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        try:
            for text in _output(process):
                said += text
                _tell(text, progress)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise _FailedError(_reason(said))
    return said


def _tell(text: str, progress: Progress) -> None:
    """How far it is, by what it has just said. Across a network it takes up to a minute until it writes."""
    stages, done = re.findall(STAGE, text), re.findall(r"(\d+)\.\d%", text)
    if done:
        progress(f"flash {done[-1]} %")
    elif stages:
        progress(f"esptool: {stages[-1].lower()}")


def _output(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """What it prints, as it comes. Ends the process if nothing comes for long: some faults make it wait for ever."""
    assert process.stdout is not None
    while select.select([process.stdout], [], [], SILENCE_S)[0]:
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            return
        yield data.decode(errors="replace")
    process.kill()
    yield "\ntimed out"


def _reason(said: str) -> str:
    """The words that tell why esptool failed: those that it calls its error, else the last."""
    words = said.rpartition("fatal error occurred:")[2] if "fatal error occurred:" in said else said[-200:]
    return re.sub(r"\s+", " ", words).strip()[-500:]
