"""The real esptool flashes images of the ESP32 family into a boot loader on a pseudo-terminal; and says that they are
sound."""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from cli_models import dense
from esp_rom import Rom

from sdk.boards import Board, MemoryRegion, load_board
from sdk.build import Image
from sdk.deploy import make_image, prepare
from sdk.errors import LinkError, MissingToolError, ToolError
from sdk.graph import Graph
from sdk.load import load
from sdk.tools import compiler_command, programs

esptool = importlib.import_module("sdk.flash.esptool")
MODEL = Path(__file__).parents[1] / "examples" / "digits" / "digits_int8.tflite"
EFUSE_ABS_DONE = 0x3FF5A018


def image_of(board: Board, graph: Graph | None = None) -> Image:
    try:
        compiler_command(board.compiler)
    except MissingToolError as error:
        pytest.skip(str(error))
    return make_image(prepare(graph or load(MODEL), board), board)


@pytest.fixture(scope="module")
def esp32() -> Image:
    return image_of(load_board("esp32"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(esptool, "ATTEMPTS", 1)
    monkeypatch.setattr(esptool, "PATIENT_ATTEMPTS", 1)


def flash(image: Image, rom: Rom) -> list[str]:
    """Flashes `image` into `rom`, plugged in for that; what was told of the progress."""
    told: list[str] = []
    with rom.plugged():
        esptool.flash(image.board, image, rom.port, told.append).close()
    return told


def holds(rom: Rom, image: Image) -> bool:
    data = image.file.read_bytes()
    return rom.flash[: len(data)] == data


def changed(*blocks: int) -> object:
    """Damage to these blocks: a bit of their data."""
    return lambda block, frame: frame[:-1] + bytes([frame[-1] ^ 1]) if block in blocks else frame


@pytest.mark.parametrize("name", ["esp32", "esp32s3", "esp32c3"])
def test_image_is_sound(name: str, tmp_path: Path) -> None:
    """Header, segments, checksum and hash of what the ROM starts, as esptool reads them, and where they lie."""
    board = load_board(name)
    image = image_of(board)
    boot = tmp_path / "boot.bin"
    boot.write_bytes(image.file.read_bytes()[0x1000 if name == "esp32" else 0 :])
    done = subprocess.run(
        [sys.executable, "-m", "esptool", "image-info", str(boot)], capture_output=True, text=True, check=True
    )
    said = {line.partition(":")[0]: line.partition(":")[2].strip() for line in done.stdout.splitlines()}
    assert said["Detected image type"].replace("-", "").lower() == name
    assert said["Entry point"] == f"{board.regions['iram'].origin:#x}"
    assert (said["Segments"], said["Flash size"], said["Flash mode"]) == ("1", "4MB", "DIO")
    assert said["Checksum"].endswith("(valid)")
    assert said["Validation hash"].endswith("(valid)")


def with_flash(board: Board, pages: int) -> Board:
    """`board` with so many pages of 64 KB, of which the first is not the region's; no updates."""
    flash_region = MemoryRegion(board.regions["flash"].origin, (pages - 1) << 16)
    others = {name: region for name, region in board.regions.items() if name not in ("flash", "programs")}
    return replace(board, regions={**others, "flash": flash_region})


@pytest.mark.parametrize(("pages", "size"), [(3, 1), (16, 1), (17, 2), (40, 4), (64, 4), (65, 8)])
def test_flash_of_any_size(pages: int, size: int, tmp_path: Path) -> None:
    """The header knows powers of two."""
    board = load_board("esp32c3")
    elf = Path(shutil.copy(image_of(board).elf, tmp_path))
    assert esptool.package(with_flash(board, pages), elf).read_bytes()[3] >> 4 == size.bit_length() - 1


@pytest.mark.parametrize(("name", "pages"), [("esp32", 65), ("esp32c3", 129)])
def test_flash_that_the_chip_cannot_map(name: str, pages: int) -> None:
    with pytest.raises(ToolError, match="more flash than the chip maps"):
        image_of(with_flash(load_board(name), pages))


@pytest.mark.parametrize(
    ("name", "hz"), [("esp32", 1), ("esp32", 160_000_000), ("esp32s3", 40_000_000), ("esp32c3", 1)]
)
def test_clock_that_the_port_does_not_set(name: str, hz: int) -> None:
    with pytest.raises(ToolError, match=r"build\.f_cpu: .*MHz"):
        image_of(replace(load_board(name), clock_hz=hz))


def test_two_at_once_package_one_image(esp32: Image) -> None:
    """Each makes the whole file, and nothing is left beside it."""
    before, files = esp32.file.read_bytes(), sorted(esp32.elf.parent.iterdir())
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: esptool.package(esp32.board, esp32.elf).read_bytes(), range(3)))
    assert made == [before] * 3
    assert sorted(esp32.elf.parent.iterdir()) == files


def test_compressed(esp32: Image) -> None:
    rom = Rom()
    told = flash(esp32, rom)
    assert holds(rom, esp32)
    assert 0x11 in rom.commands
    assert list(dict.fromkeys(text for text in told if "%" not in text)) == [
        "esptool: connecting",
        "esptool: uploading stub flasher",
        "esptool: configuring flash size",
    ]
    assert told[-1] == "flash 100 %"


def test_without_a_stub(esp32: Image) -> None:
    """A chip that does not run what is put into its RAM."""
    rom = Rom(stub=False)
    flash(esp32, rom)
    assert holds(rom, esp32)
    assert 0x03 in rom.commands


@pytest.mark.parametrize("damage", [changed(2), lambda block, frame: frame[:-1] if block == 2 else frame])
def test_damaged_block_is_sent_again(esp32: Image, damage: object) -> None:
    """A bit that is wrong; a byte that is lost."""
    rom = Rom(damage=damage)
    flash(esp32, rom)
    assert holds(rom, esp32)


def test_line_that_damages_all_blocks(esp32: Image) -> None:
    with pytest.raises(LinkError, match=r"esptool\.baud"):
        flash(esp32, Rom(damage=changed(*range(99))))


def test_chip_with_less_flash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Than the image takes: esptool asks the flash for its size."""
    monkeypatch.setattr("esp_rom.FLASH_ID", 0x1240C8)
    large = image_of(load_board("esp32"), dense(inputs=3000, outputs=100))
    rom = Rom()
    with pytest.raises(LinkError, match=r"too large for the chip on /dev/pts/\d+: its flash has 262144 bytes"):
        flash(large, rom)
    assert not {0x02, 0x10} & set(rom.commands)


def test_cable_pulled_half_way(esp32: Image) -> None:
    rom = Rom(damage=lambda block, frame: frame if block < 2 else None)
    with pytest.raises(LinkError, match="stopped answering while it was flashed"):
        flash(esp32, rom)
    assert not holds(rom, esp32)
    again = Rom(flash=rom.flash)
    flash(esp32, again)
    assert holds(again, esp32)


def test_wrong_chip(esp32: Image) -> None:
    rom = Rom("esp32c3")
    with pytest.raises(LinkError, match="is an ESP32-C3, and esp32 has another"):
        flash(esp32, rom)
    assert not {0x02, 0x10} & set(rom.commands)


@pytest.mark.parametrize(
    ("lock", "name"), [({"security_flags": 1}, "Secure Boot"), ({"encryptions": 1}, "Flash Encry")]
)
def test_locked_chip(lock: dict[str, int], name: str) -> None:
    rom = Rom("esp32c3", **lock)
    with pytest.raises(LinkError, match=f"locked: {name}"):
        flash(image_of(load_board("esp32c3")), rom)
    assert not {0x02, 0x10} & set(rom.commands)


def test_locked_esp32(esp32: Image) -> None:
    rom = Rom(registers={EFUSE_ABS_DONE: 1 << 4})
    with pytest.raises(LinkError, match="locked: Secure Boot"):
        flash(esp32, rom)
    assert not {0x02, 0x10} & set(rom.commands)


def carry(server: socket.socket, device: str) -> None:
    """Connections to `server`, one after the other, get the line `device`."""
    with contextlib.suppress(OSError):
        while True:
            connection, _ = server.accept()
            line = os.open(device, os.O_RDWR | os.O_NOCTTY)
            with connection:
                while ready := select.select([connection, line], [], [])[0]:
                    if line in ready:
                        connection.sendall(os.read(line, 4096))
                    if connection in ready:
                        data = connection.recv(4096)
                        if not data:
                            break
                        os.write(line, data)
            os.close(line)


def test_across_a_socket(esp32: Image) -> None:
    """Which carries bytes alone: the board is reset by hand."""
    told: list[str] = []
    with Rom().plugged() as rom, socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=carry, args=(server, rom.port))
        thread.start()
        url = f"socket://127.0.0.1:{server.getsockname()[1]}"
        esptool.flash(esp32.board, esp32, url, told.append).close()
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert holds(rom, esp32)
    assert "reset the board now" in told[-1]


# esptool's own server, for a line that has no control lines: a pseudo-terminal.
SERVER = """
import serial
for name in ("cts", "dsr", "ri", "cd"):
    setattr(serial.Serial, name, property(lambda port: True))
serial.Serial._update_dtr_state = serial.Serial._update_rts_state = lambda port: None
from esp_rfc2217_server import main
main()
"""


@contextlib.contextmanager
def network_server(device: str) -> Iterator[str]:
    """The URL of `device` at esptool's server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-u", "-c", SERVER, "-p", str(port), device]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            assert any("Waiting for connection" in line for line in process.stdout)
            threading.Thread(target=process.stdout.read).start()  # else it waits when it has said much
            yield f"rfc2217://127.0.0.1:{port}"
        finally:
            process.kill()


def test_across_a_network_server() -> None:
    """As far as the question for locks: esptool sets the line up anew for each request, which takes its time."""
    rom = Rom("esp32c3", security_flags=1)
    image = image_of(load_board("esp32c3"))
    locked = pytest.raises(LinkError, match=r"the chip on rfc2217://\S+ is locked: Secure Boot")
    told: list[str] = []
    with rom.plugged(), network_server(rom.port) as url, locked:
        esptool.flash(image.board, image, url, told.append)
    assert told == ["esptool: connecting"]


def test_nobody_serves_the_port(esp32: Image) -> None:
    with pytest.raises(LinkError, match=r"cannot connect to socket://127\.0\.0\.1:9: \[Errno 111\]"):
        esptool.flash(esp32.board, esp32, "socket://127.0.0.1:9", lambda _text: None)


def test_no_answer(esp32: Image) -> None:
    told: list[str] = []
    with Rom().plugged() as rom, Rom("esp32c3").plugged():
        rom._ended.set()  # nobody reads any more
        with pytest.raises(LinkError, match="BOOT button"):
            esptool.flash(esp32.board, esp32, rom.port, told.append)
    assert "BOOT button" in told[1]


def test_the_vendors_compiler_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PlatformIO leaves it: a folder a package. Without it, what apt has."""
    monkeypatch.setenv("PLATFORMIO_CORE_DIR", str(tmp_path))
    assert programs("riscv32-esp-elf-gcc") == ("riscv64-unknown-elf-gcc",)
    assert programs("xtensa-esp32-elf-gcc") == programs("xtensa_cc")
    for name in ("riscv32-esp-elf-gcc", "xtensa-esp32-elf-gcc"):
        path = tmp_path / "packages" / f"toolchain-{name}" / "bin" / name
        path.parent.mkdir(parents=True)
        path.touch(0o755)
        assert programs(name) == (name,)
        assert str(path) in compiler_command(name)


@pytest.mark.parametrize(("version", "used"), [("8.4.0", False), ("14.2.0", True), ("", True)])
def test_a_vendors_compiler_that_is_too_old_is_left_alone(
    version: str, used: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would stop at the first flag that it does not know. One that says no version may be a script around it."""
    path = tmp_path / "riscv32-esp-elf-gcc"
    path.write_text(f"#!/bin/sh\necho {version}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert programs(path.name) == ((path.name,) if used else ("riscv64-unknown-elf-gcc",))
