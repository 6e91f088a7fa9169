"""UF2 files, and the drive that takes them: read by another's reader, and by a Pico in the emulator rp2040js."""

from __future__ import annotations

import contextlib
import errno
import importlib
import itertools
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from board_line import ask, wake

from sdk.boards import load_board
from sdk.build import Image, Source, build_image, firmware_sources
from sdk.cli import main
from sdk.deploy import make_image, prepare
from sdk.elf import flash_image
from sdk.errors import LinkError, MissingToolError, ToolError
from sdk.flash import flash
from sdk.load import load

DIGITS = Path(__file__).parent.parent / "examples" / "digits" / "digits_int8.tflite"
HERE = Path(__file__).parent
module = importlib.import_module("sdk.flash.uf2")


@pytest.fixture(scope="module", params=["pico", "pico2"])
def image(request: pytest.FixtureRequest) -> Image:
    board = load_board(request.param)
    try:
        return make_image(prepare(load(DIGITS), board), board)
    except MissingToolError as error:
        pytest.skip(error.message)


def test_another_reader_reads_the_file(image: Image) -> None:
    """Microsoft's own, as a package; and each block by the specification."""
    reader = pytest.importorskip("adafruit_uf2.uf2conv")
    data = image.file.read_bytes()
    assert image.file.suffix == ".uf2"
    assert reader.is_uf2(data)
    origin, expected = flash_image(image.elf, image.board.regions["flash"])
    expected += b"\xff" * (-len(expected) % 4096)
    assert bytes(reader.convert_from_uf2(data)) == expected
    family = {"pico": 0xE48BFF56, "pico2": 0xE48BFF59}[image.board.id]
    for i in range(len(data) // 512):
        words = struct.unpack_from("<8I", data, 512 * i)
        assert words == (0x0A324655, 0x9E5D5157, 0x2000, origin + 256 * i, 256, i, len(data) // 512, family)


def test_boot_rom_finds_what_it_wants(image: Image) -> None:
    origin, data = flash_image(image.elf, image.board.regions["flash"])
    assert origin == 0x10000000
    if image.board.id == "pico":
        assert struct.unpack_from("<I", data, 252)[0] == crc_mpeg2(data[:252])
        vectors = 256
    else:
        assert data.index(struct.pack("<5I", 0xFFFFDED3, 0x10210142, 0x1FF, 0, 0xAB123579)) < 4096
        vectors = 0
    stack, start = struct.unpack_from("<2I", data, vectors)
    assert 0x20000000 < stack <= 0x20000000 + image.board.ram_bytes
    assert start & 1
    assert origin < start < origin + len(data)


def crc_mpeg2(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte, bit in itertools.product(data, range(7, -1, -1)):
        crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 ^ byte >> bit & 1 else 0)) & 0xFFFFFFFF
    return crc


NewDrive = Callable[[str, str], Path]


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NewDrive:
    """A function that makes a folder look like the drive of a chip's boot loader."""
    mounts = tmp_path / "mounts"
    mounts.write_text(f"proc /proc proc rw 0 0\ntmpfs {tmp_path} tmpfs rw 0 0\n")
    monkeypatch.setattr(module, "MOUNTS", mounts)
    monkeypatch.setattr(module, "LABELS", tmp_path / "labels")

    def add(name: str, chip: str) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "INFO_UF2.TXT").write_text(f"UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: {chip}\r\n")
        with mounts.open("a") as lines:
            lines.write(f"/dev/sdz1 {str(folder).replace(' ', chr(92) + '040')} vfat rw 0 0\n")
        return folder

    return add


def test_drive_is_found(drive: NewDrive) -> None:
    folder = drive("a drive", "RPI-RP2")
    drive("other", "RP2350")
    assert module.find_drive(load_board("pico")) == folder


def test_only_drives_of_that_kind_are_looked_into(drive: NewDrive, tmp_path: Path) -> None:
    """A pipe stands for a dead NFS: to open it would take for ever. And a file without an end is read in part."""
    (tmp_path / "network").mkdir()
    os.mkfifo(tmp_path / "network" / "INFO_UF2.TXT")
    with (tmp_path / "mounts").open("a") as lines:
        lines.write(f"server:/home {tmp_path / 'network'} nfs4 rw 0 0\n")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "INFO_UF2.TXT").symlink_to("/dev/zero")
    with (tmp_path / "mounts").open("a") as lines:
        lines.write(f"/dev/sdy1 {tmp_path / 'odd'} vfat rw 0 0\n")
    folder = drive("one", "RPI-RP2")
    assert module.find_drive(load_board("pico")) == folder


def test_no_drive(drive: NewDrive, tmp_path: Path) -> None:
    with pytest.raises(LinkError, match="no drive RPI-RP2") as error:
        module.find_drive(load_board("pico"))
    assert "BOOTSEL" in error.value.remedy
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "RPI-RP2").symlink_to("/dev/null")
    with pytest.raises(LinkError, match="not mounted") as error:
        module.find_drive(load_board("pico"))
    assert "udisksctl mount -b /dev/null" in error.value.remedy
    drive("one", "RP2350")
    (tmp_path / "labels" / "RPI-RP2").unlink()
    with pytest.raises(LinkError, match="another chip: RP2350") as error:
        module.find_drive(load_board("pico"))
    assert "--board pico2" in error.value.remedy


def test_two_drives(drive: NewDrive) -> None:
    drive("one", "RPI-RP2")
    drive("two", "RPI-RP2")
    with pytest.raises(LinkError, match=r"2 boards wait.*one and .*two"):
        module.find_drive(load_board("pico"))


@pytest.fixture
def silent_port() -> Iterator[str]:
    """A port across the network that can be opened."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"socket://127.0.0.1:{server.getsockname()[1]}"


def test_port_that_does_not_open(drive: NewDrive, image: Image) -> None:
    folder = drive("one", image.board.flashers["uf2"]["volume"])
    with pytest.raises(LinkError, match="cannot connect to socket"):
        flash(image.board, image, port="socket://127.0.0.1:9")
    assert [path.name for path in folder.iterdir()] == ["INFO_UF2.TXT"]


def test_copy_that_the_board_does_not_take(
    drive: NewDrive, image: Image, monkeypatch: pytest.MonkeyPatch, silent_port: str
) -> None:
    monkeypatch.setattr(module, "RESTART_S", 0.1)
    folder = drive("one", image.board.flashers["uf2"]["volume"])
    with pytest.raises(LinkError, match="has not taken the image"):
        flash(image.board, image, port=silent_port)
    assert (folder / "microlith.uf2").read_bytes() == image.file.read_bytes()


def test_full_drive(drive: NewDrive, image: Image, tmp_path: Path, silent_port: str) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", folder], capture_output=True).returncode:
        pytest.skip("this user may not mount a small file system")
    try:
        drive("full", image.board.flashers["uf2"]["volume"])
        with pytest.raises(ToolError, match="is full"):
            flash(image.board, image, port=silent_port)
        assert [path.name for path in folder.iterdir()] == ["INFO_UF2.TXT"]
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("gone", [True, False], ids=["half way", "last block"])
def test_drive_goes_away(
    drive: NewDrive, image: Image, monkeypatch: pytest.MonkeyPatch, gone: bool, silent_port: str
) -> None:
    """Half way it is an error; with the last block it is what a boot loader does."""
    syncs = 1 if gone else -(-image.file.stat().st_size // module.COPY_BYTES)
    assert syncs > 1 or gone
    folder = drive("one", image.board.flashers["uf2"]["volume"])
    count = 0

    def fsync(_file: object) -> None:
        nonlocal count
        count += 1
        if count == syncs:
            (folder / "INFO_UF2.TXT").unlink()
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(LinkError, match="went away") if gone else contextlib.nullcontext():
        flash(image.board, image, port=silent_port).close()
    assert count == syncs


@pytest.fixture
def pico(drive: NewDrive) -> Iterator[str]:
    """The serial port of an emulated Pico whose boot loader waits for an image."""
    package = HERE.parent / ".venv" / "rp2040js" / "node_modules" / "rp2040js"
    package = Path(os.environ.get("MICROLITH_RP2040JS", package))
    if shutil.which("node") is None or not package.is_dir():
        pytest.skip("no emulator of the RP2040: it needs node, and npm when `setup.sh --tests` runs")
    folder = drive("pico", "RPI-RP2")
    command = ["node", str(HERE / "rp2040" / "pico.cjs"), str(package), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"socket://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


def test_emulated_pico_runs_a_model(pico: str, capsys: pytest.CaptureFixture[str]) -> None:
    """From the boot ROM's checksum of the second stage to equal outputs."""
    assert main(["verify", str(DIGITS), "--board", "pico", "--port", pico, "--count", "2"]) == 0
    assert "equal" in capsys.readouterr().out


def test_emulated_pico_counts_cycles_and_restarts(pico: str) -> None:
    """SysTick goes round at 2^24 cycles; a loop takes three cycles a turn on a Cortex-M0+ with this branch."""
    board = load_board("pico")
    ports = [source for source in firmware_sources(board) if source.folder.startswith("port/")]
    line = flash(
        board, build_image(board, [*ports, Source(HERE / "c" / "board.c", "port/test", shared=False)], {}), port=pico
    )
    for _ in range(2):
        wake(line)
        assert ask(line, "v") == 0x12345678
        short = ask(line, "t", 1000)
        for loops in (2000, 8_000_000):
            cycles = ask(line, "t", loops) - short
            assert 0 <= cycles - 3 * (loops - 1000) <= 40  # at most one interrupt
        line.write(b"r")
    with pytest.raises(LinkError, match=r"no wire of .* resets the board"):
        line.reset()
    line.close()
